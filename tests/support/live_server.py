"""A server in this process: a tiny model or scripted answers behind real sockets."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from support.checkpoints import tiny_config, tiny_model, write_hf
from tonnage.core.errors import DeadlineError, LogitsError, OverloadError
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.engine import Engine
from tonnage.engine.generation import Generation
from tonnage.engine.job import Delta
from tonnage.server.http.app import App
from tonnage.server.http.exchange import ServerLimits
from tonnage.server.http.run import bind, server_of
from tonnage.server.models.pool import ModelPool
from tonnage.server.models.service import Service
from tonnage.server.models.tenants import Tenants
from tonnage.server.observe.trace import Tracer

TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|end|>{% endfor %}[assistant]"
TOOL_TEMPLATE = "{% if tools %}[tools]{{ tools | tojson }}{% endif %}" + TEMPLATE
NAME = "tiny"
# What an engine may fail with, and the status that tells of it. Made anew for each test: an error
# that was raised keeps the engine it was raised in.
FAILURES: list[tuple[Callable[[], Exception], int]] = [
    (lambda: OverloadError("Full.", retry_after_s=2.5), 429),
    (lambda: OverloadError("Never."), 400),
    (lambda: DeadlineError("Late."), 504),
    (lambda: LogitsError("Not finite."), 500),
    (lambda: ValueError("the secret prompt"), 500),
]


def write_chat_model(folder: Path, template: str = TEMPLATE, **changes: object) -> Path:
    """Write a tiny model with a chat template; its greedy answers never end by themselves."""
    changes = {"max_position_embeddings": 1 << 16, **changes}
    write_hf(folder, tiny_model(tiny_config("gemma2", **changes), seed=1))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@dataclass
class ScriptedAnswer:
    """An answer whose pieces are known beforehand; `error` is raised in their place."""

    generation: Generation
    pieces: list[str]
    error: Exception | None = None
    pause_s: float = 0
    waits_once: bool = False
    closed: bool = False

    def __aiter__(self) -> "ScriptedAnswer":
        return self

    async def __anext__(self) -> Delta:
        await asyncio.sleep(self.pause_s)
        self.pause_s *= not self.waits_once
        if self.error is not None:
            raise self.error
        if not self.pieces:
            self.generation.finish_reason = "stop"
            raise StopAsyncIteration
        text = self.pieces.pop(0)
        self.generation.text += text
        self.generation.tokens.append(0)
        return Delta(text, (0,), ())

    async def aclose(self) -> None:
        self.closed = True


@dataclass
class ScriptedEngine:
    """Answers every request with the same pieces, or an error, and remembers what was asked.

    pause_s: before each piece and the end, with waits_once before the first only.
    """

    pieces: Sequence[str] = ("Hello", " there")
    error: Exception | None = None
    pause_s: float = 0
    waits_once: bool = False
    asked: list[tuple[list[int], SamplingOptions, dict[str, Any]]] = field(default_factory=list)

    def stream(self, prompt: list[int], options: SamplingOptions, **order: Any) -> ScriptedAnswer:
        self.asked.append((prompt, options, order))
        generation = Generation(prompt, options, options.seed or 0)
        return ScriptedAnswer(
            generation, list(self.pieces), self.error, self.pause_s, self.waits_once
        )


@dataclass
class Live:
    """A running server."""

    url: str
    port: int
    service: Service
    app: App


@contextlib.contextmanager
def live(
    engine: Engine,
    answers: Any = None,
    *,
    tenants: Tenants | None = None,
    tracer: Tracer | None = None,
    origins: Sequence[str] = (),
    **limits: Any,
) -> Iterator[Live]:
    """Serve `engine` in a thread; answers: another AsyncEngine, such as a ScriptedEngine."""
    service = Service(engine, answers or engine, [NAME], with_structured_output=True)
    bounds = replace(ServerLimits(drain_s=3), **limits)
    app = App(ModelPool.around(service), tenants or Tenants({}), bounds, tracer)
    server = server_of(app, bounds, origins)
    bound = bind("127.0.0.1", 0, need_keys=False)
    port = bound.getsockname()[1]
    thread = threading.Thread(target=asyncio.run, args=(server.serve(sockets=[bound]),))
    thread.start()
    try:
        while not server.started:
            threading.Event().wait(0.01)
        yield Live(f"http://127.0.0.1:{port}", port, service, app)
    finally:
        server.should_exit = True
        thread.join(20)
        service.close()
        assert not thread.is_alive()
