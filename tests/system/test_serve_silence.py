"""Streams give signs of life while a request waits: the official clients behind a proxy that cuts.

Comments and pings: html.spec.whatwg.org (server-sent events), docs.anthropic.com (streaming).
"""

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest

from stand_ins.silence_proxy import silence_proxy
from support.live_server import NAME, ScriptedEngine, live, write_chat_model
from tonnage.core.errors import DeadlineError
from tonnage.engine.engine import Engine

HI: Any = [{"role": "user", "content": "Hello"}]
# A sixth of what the defaults are to a proxy that waits for 10 s and a request that waits for 60.
SILENCE_S, PATIENCE_S, WAIT_S = 0.2, 0.7, 2.0


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = write_chat_model(tmp_path_factory.mktemp("model") / "hf")
    with Engine.open(str(folder), context=512, threads=1) as opened:
        yield opened


def by_chat(port: int) -> str:
    chunks = openai_client(port).chat.completions.create(model=NAME, messages=HI, stream=True)
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def by_completions(port: int) -> str:
    chunks = openai_client(port).completions.create(model=NAME, prompt="Hello", stream=True)
    return "".join(chunk.choices[0].text for chunk in chunks)


def by_responses(port: int) -> str:
    with openai_client(port).responses.stream(model=NAME, input="Hello") as stream:
        return stream.get_final_response().output_text


def by_messages(port: int) -> str:
    client = anthropic.Anthropic(base_url=f"http://127.0.0.1:{port}", api_key="none", max_retries=0)
    with client, client.messages.stream(model=NAME, messages=HI, max_tokens=9) as stream:
        return "".join(stream.text_stream)


def openai_client(port: int) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)


INTERFACES = [by_chat, by_completions, by_responses, by_messages]
PATHS = {
    "/v1/chat/completions": (b'"messages":[{"role":"user","content":"hi"}]', b": "),
    "/v1/completions": (b'"prompt":"hi"', b": "),
    "/v1/responses": (b'"input":"hi"', b": "),
    "/v1/messages": (
        b'"max_tokens":9,"messages":[{"role":"user","content":"hi"}]',
        b"event: ping\n",
    ),
}


@pytest.mark.parametrize("ask", INTERFACES)
def test_a_request_that_waits_gets_its_answer_through_a_proxy_that_cuts(
    engine: Engine, ask: Callable[[int], str]
) -> None:
    answers = ScriptedEngine(["Hello", " there"], pause_s=WAIT_S)
    with (
        live(engine, answers, silence_s=SILENCE_S) as server,
        silence_proxy(server.port, PATIENCE_S) as port,
    ):
        assert ask(port) == "Hello there"
    # The proxy does cut what is silent.
    with (
        live(engine, answers, silence_s=60.0) as server,
        silence_proxy(server.port, PATIENCE_S) as port,
        pytest.raises((openai.APIError, anthropic.APIError, OSError)),
    ):
        ask(port)


@pytest.mark.parametrize("path", PATHS)
def test_headers_come_at_once_and_then_signs(engine: Engine, path: str) -> None:
    fields, sign = PATHS[path]
    body = b'{"model":"tiny","stream":true,%b}' % fields
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    answers = ScriptedEngine(["Hello"], pause_s=WAIT_S)
    with (
        live(engine, answers, silence_s=SILENCE_S) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection,
    ):
        begin = time.monotonic()
        connection.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        received = b""
        while received.count(sign) < 2:
            data = connection.recv(1 << 16)
            assert data, received
            received += data
        assert received.startswith(b"HTTP/1.1 200 ")
        assert b'data: {"id"' not in received
        assert time.monotonic() - begin < WAIT_S


def test_an_error_behind_the_headers_is_an_event(engine: Engine) -> None:
    answers = ScriptedEngine(error=DeadlineError("Late."), pause_s=1.0)
    with live(engine, answers, silence_s=0.1) as server:
        with pytest.raises(openai.APIError, match="deadline"):
            by_chat(server.port)
        with pytest.raises(anthropic.APIStatusError, match="deadline"):
            by_messages(server.port)
