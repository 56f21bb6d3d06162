"""Every parameter of the official clients is heard, is a no-op by design, or is refused by name.

The parameters are those of the clients' own signatures, so a new version of a client is a new test.
"""

import http.client
import inspect
import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_type_hints

import anthropic
import msgspec
import openai
import pytest
from openai.resources.responses import Responses

from support.live_server import NAME, Live, ScriptedEngine, live, write_chat_model
from tonnage.engine.engine import Engine
from tonnage.server.anthropic import messages
from tonnage.server.anthropic.schema import CountRequest, MessageRequest
from tonnage.server.http.decoding import decode
from tonnage.server.http.failures import HttpError
from tonnage.server.openai import chat, completions, embeddings, responses
from tonnage.server.openai.response_schema import ResponseRequest
from tonnage.server.openai.schema import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    NoOp,
)

HI = [{"role": "user", "content": "hi"}]
ROOT = Path(__file__).parents[2]
# Of the client's own connection. `betas` is a header field.
OF_THE_CLIENT = {"self", "extra_headers", "extra_query", "extra_body", "timeout", "betas"}


class Interface:
    """A path, the structure that its bodies are read into, and the client's methods for it."""

    def __init__(self, path: str, kind: type, module: Any, least: dict, *methods: Callable) -> None:
        """least: the fields that a request needs."""
        self.path, self.kind, self.module, self.least = path, kind, module, least
        self.methods = methods

    @property
    def parameters(self) -> set[str]:
        found = (set(inspect.signature(method).parameters) for method in self.methods)
        return set().union(*found) - OF_THE_CLIENT

    @property
    def no_ops(self) -> set[str]:
        hints = get_type_hints(self.kind, include_extras=True)
        return {name for name, hint in hints.items() if hint == NoOp}

    @property
    def refused(self) -> set[str]:
        hints = get_type_hints(self.kind, include_extras=True)
        return {
            name for name, hint in hints.items() if getattr(hint, "__origin__", 0) is type(None)
        }


_OPENAI, _ANTHROPIC = openai.resources, anthropic.resources
INTERFACES = [
    Interface(
        "/v1/chat/completions", ChatRequest, chat, {"messages": HI},
        _OPENAI.chat.Completions.create,
    ),
    Interface(
        "/v1/completions", CompletionRequest, completions, {"prompt": "hi"},
        _OPENAI.Completions.create,
    ),
    Interface(
        "/v1/responses", ResponseRequest, responses, {"input": "hi"}, Responses.create,
    ),
    Interface(
        "/v1/embeddings", EmbeddingRequest, embeddings, {"input": "hi"}, _OPENAI.Embeddings.create,
    ),
    Interface(
        "/v1/messages", MessageRequest, messages, {"messages": HI, "max_tokens": 5},
        _ANTHROPIC.Messages.create, anthropic.resources.beta.messages.Messages.create,
    ),
    Interface(
        "/v1/messages/count_tokens", CountRequest, messages, {"messages": HI},
        _ANTHROPIC.Messages.count_tokens,
        anthropic.resources.beta.messages.Messages.count_tokens,
    ),
]  # fmt: skip
# Nothing scripted embeds.
SPEAKING = [one for one in INTERFACES if one.kind is not EmbeddingRequest]
every_interface = pytest.mark.parametrize("interface", INTERFACES, ids=lambda one: one.path)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = write_chat_model(tmp_path_factory.mktemp("model") / "hf")
    with Engine.open(str(folder), context=512, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def server(engine: Engine) -> Iterator[Live]:
    with live(engine, ScriptedEngine(["Hello"])) as server:
        yield server


def post(server: Live, interface: Interface, **fields: Any) -> tuple[int, bytes]:
    body = msgspec.json.encode({"model": NAME, **interface.least, **fields})
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as connection:
        connection.request("POST", interface.path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, reply.read()


@every_interface
def test_what_is_not_heard_is_refused_by_name(interface: Interface) -> None:
    known = set(interface.kind.__struct_fields__)
    assert len(interface.parameters & known) > len(interface.parameters) / 2
    for name in (interface.parameters - known) | interface.refused | {"no_such_field"}:
        body = {"model": NAME, **interface.least, name: {"a": 1}}
        with pytest.raises(HttpError, match=f"{name} is not supported: ") as caught:
            decode(interface.kind, msgspec.json.encode(body))
        assert (caught.value.status, caught.value.param) == (400, name)
        if name in interface.refused:  # null asks for nothing
            decode(interface.kind, msgspec.json.encode({**body, name: None}))


class Recorder:
    """A request that remembers which of its fields were read."""

    def __init__(self, request: Any, read: set[str]) -> None:
        self._request, self._read = request, read

    def __getattr__(self, name: str) -> Any:
        self._read.add(name)
        return getattr(self._request, name)


# Read before the body is, or changing no count.
ELSEWHERE = {"model", "stream", "output_format"}
# Fields whose type allows only what is so anyway -> a value that would be something else.
FIXED = {
    "modalities": ["audio"], "include": ["message.output_text.logprobs"], "top_logprobs": 2,
    "stream_options": {"some": True}, "speed": "fast", "n": 2,
    "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
}  # fmt: skip


@every_interface
def test_what_is_heard_is_read(
    interface: Interface, server: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[str] = set()
    monkeypatch.setattr(
        interface.module, "decode", lambda kind, body: Recorder(decode(kind, body), read)
    )
    status, text = post(server, interface)
    assert status == 200 or interface.kind is EmbeddingRequest, text
    unread = interface.parameters & set(interface.kind.__struct_fields__) - read - ELSEWHERE
    for name in unread - interface.no_ops - interface.refused:
        status, text = post(server, interface, **{name: FIXED[name]})
        error = json.loads(text)["error"]
        assert (status, error.get("param", name)) == (400, name)
        assert error["message"].startswith(name)


@pytest.mark.parametrize("interface", SPEAKING, ids=lambda one: one.path)
def test_what_changes_nothing_does_not(interface: Interface, server: Live) -> None:
    status, text = post(server, interface, **{name: {"a": "b"} for name in interface.no_ops})
    assert status == 200, text


def test_the_manual_lists_what_changes_nothing() -> None:
    manual = (ROOT / "docs" / "serving.md").read_text()
    paragraph = re.search(r"Taken, and changing nothing: (.*?)\n\n", manual, re.DOTALL)
    assert paragraph is not None
    told = set(re.findall(r"`(\w+)`", paragraph.group(1)))
    assert told == set().union(*(interface.no_ops for interface in INTERFACES))
