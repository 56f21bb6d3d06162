"""Answers give signs of life while a request waits: the official clients behind a proxy that cuts.

Comments and pings: html.spec.whatwg.org (server-sent events), docs.anthropic.com (streaming).
"""

import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import anthropic
import openai
import pytest

from stand_ins.silence_proxy import silence_proxy
from support.live_server import NAME, Live, ScriptedEngine, live, write_chat_model
from tonnage.core.errors import DeadlineError
from tonnage.engine.engine import Engine
from tonnage.server.http.exchange import ServerLimits

HI: Any = [{"role": "user", "content": "Hello"}]
# What a proxy waits for that cuts what is silent, and how long a request waits.
PATIENCE_S, WAIT_S = 10.0, 60.0


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = write_chat_model(tmp_path_factory.mktemp("model") / "hf")
    with Engine.open(str(folder), context=512, threads=1) as opened:
        yield opened


def streamed_chat(client: openai.OpenAI) -> str:
    chunks = client.chat.completions.create(model=NAME, messages=HI, stream=True)
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def whole_chat(client: openai.OpenAI) -> str | None:
    return client.chat.completions.create(model=NAME, messages=HI).choices[0].message.content


def streamed_completion(client: openai.OpenAI) -> str:
    chunks = client.completions.create(model=NAME, prompt="Hello", stream=True)
    return "".join(chunk.choices[0].text for chunk in chunks)


def whole_completion(client: openai.OpenAI) -> str:
    return client.completions.create(model=NAME, prompt="Hello").choices[0].text


def streamed_response(client: openai.OpenAI) -> str:
    with client.responses.stream(model=NAME, input="Hello") as stream:
        return stream.get_final_response().output_text


def whole_response(client: openai.OpenAI) -> str:
    return client.responses.create(model=NAME, input="Hello").output_text


def streamed_message(client: anthropic.Anthropic) -> str:
    with client.messages.stream(model=NAME, messages=HI, max_tokens=9) as stream:
        return "".join(stream.text_stream)


def whole_message(client: anthropic.Anthropic) -> str:
    return client.messages.create(model=NAME, messages=HI, max_tokens=9).content[0].text


BY_OPENAI: list[Any] = [
    streamed_chat, whole_chat, streamed_completion, whole_completion, streamed_response,
    whole_response,
]  # fmt: skip
BY_ANTHROPIC: list[Any] = [streamed_message, whole_message]


def asked(port: int, ways: Iterable[Any]) -> list[Any]:
    """Ask in all these ways at once; return texts, and exceptions where there was none."""
    url: Any = {"base_url": f"http://127.0.0.1:{port}", "api_key": "none", "max_retries": 0}

    def ask(way: Any) -> Any:
        try:
            if way in BY_ANTHROPIC:
                with anthropic.Anthropic(**url) as claude:
                    return way(claude)
            with openai.OpenAI(**{**url, "base_url": f"{url['base_url']}/v1"}) as client:
                return way(client)
        except (openai.APIError, anthropic.APIError, OSError) as error:
            return error

    ways = list(ways)
    with ThreadPoolExecutor(len(ways)) as pool:
        return list(pool.map(ask, ways))


PATHS = {
    "/v1/chat/completions": (b'"messages":[{"role":"user","content":"hi"}]', b": "),
    "/v1/completions": (b'"prompt":"hi"', b": "),
    "/v1/responses": (b'"input":"hi"', b": "),
    "/v1/messages": (
        b'"max_tokens":9,"messages":[{"role":"user","content":"hi"}]',
        b"event: ping\n",
    ),
}


@pytest.mark.quiet  # a second may pass unseen on a busy machine
@pytest.mark.parametrize("scale", [0.1, pytest.param(1.0, marks=pytest.mark.slow)])
def test_a_request_that_waits_gets_its_answer_through_a_proxy_that_cuts(
    engine: Engine, scale: float
) -> None:
    ways = [*BY_OPENAI, *BY_ANTHROPIC]
    answers = ScriptedEngine(["Hello", " there"], pause_s=WAIT_S * scale, waits_once=True)
    with (
        live(engine, answers, silence_s=ServerLimits().silence_s * scale) as server,
        silence_proxy(server.port, PATIENCE_S * scale) as port,
    ):
        assert asked(port, ways) == ["Hello there"] * len(ways)
    # The proxy does cut what is silent.
    with (
        live(engine, answers, silence_s=10 * WAIT_S) as server,
        silence_proxy(server.port, PATIENCE_S * scale) as port,
    ):
        assert all(isinstance(one, Exception) for one in asked(port, ways))


@pytest.mark.parametrize("path", PATHS)
def test_headers_come_at_once_and_then_signs(engine: Engine, path: str) -> None:
    fields, sign = PATHS[path]
    body = b'{"model":"tiny","stream":true,%b}' % fields
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    answers = ScriptedEngine(["Hello"], pause_s=2.0)
    with (
        live(engine, answers, silence_s=0.2) as server,
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
        assert time.monotonic() - begin < 2.0


@pytest.mark.parametrize("path", PATHS)
def test_a_whole_answer_begins_with_white_space_after_a_silence(engine: Engine, path: str) -> None:
    body = b'{"model":"tiny",%b}' % PATHS[path][0]
    answers = ScriptedEngine(["Hello"], pause_s=0.5)
    told = []
    for silence_s in (0.1, 60.0):
        with (
            live(engine, answers, silence_s=silence_s) as server,
            closing(HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection,
        ):
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            told.append((reply, reply.read()))
    (early, spaced), (late, plain) = told
    assert (early.status, late.status) == (200, 200)
    assert early.headers["transfer-encoding"] == "chunked"
    assert late.headers["content-length"] == str(len(plain))
    rest = spaced.lstrip(b"\n")
    assert len(spaced) - len(rest) > 2
    assert len(rest) == len(plain)  # only ids and instants differ
    assert json.loads(spaced).keys() == json.loads(plain).keys()


@pytest.mark.parametrize("ways", [BY_OPENAI[1::2], BY_ANTHROPIC[1:]])
def test_an_error_behind_the_white_space_cuts_the_connection(
    engine: Engine, ways: list[Any], log_lines: Callable[[], list[dict[str, Any]]]
) -> None:
    answers = ScriptedEngine(error=DeadlineError("Late."), pause_s=0.5)
    with live(engine, answers, silence_s=0.1) as server:
        for error in asked(server.port, ways):
            assert isinstance(error, openai.APIConnectionError | anthropic.APIConnectionError)
    cut = [line for line in log_lines() if "what had begun was cut" in line["message"]]
    assert {line["status"] for line in cut} == {504}
    # Before it, and where a deadline was asked for, an error has its status.
    with live(engine, answers, silence_s=9.0) as server:
        assert {error.status_code for error in asked(server.port, ways)} == {504}
    with (
        live(engine, answers, silence_s=0.1) as server,
        client_of(server) as client,
        pytest.raises(openai.InternalServerError, match="deadline"),
    ):
        client.completions.create(model=NAME, prompt="x", extra_body={"deadline_s": 9})


def client_of(server: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_an_error_behind_the_headers_is_an_event(engine: Engine) -> None:
    answers = ScriptedEngine(error=DeadlineError("Late."), pause_s=1.0)
    with live(engine, answers, silence_s=0.1) as server:
        by_openai, by_anthropic = asked(server.port, [streamed_chat, streamed_message])
    assert isinstance(by_openai, openai.APIError)
    assert isinstance(by_anthropic, anthropic.APIStatusError)
    assert "deadline" in str(by_openai)
    assert "deadline" in str(by_anthropic)
