"""The models of a server: loaded when a request names them, unloaded when others need the bytes.

`tonnage.server.models.load_policy` decides; here is who waits, who loads, and for how long.
Everything but the loading itself happens in the event loop.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from contextvars import copy_context
from functools import partial
from time import perf_counter_ns, time
from typing import Any

from tonnage.core.errors import TonnageError
from tonnage.core.ledger import Ledger
from tonnage.server.generation.engine import ServedEngine
from tonnage.server.http.failures import HttpError, too_many
from tonnage.server.models.load_policy import Admit, Load, LoadPolicy, Size, State
from tonnage.server.models.served_model import OnLoad, ServedModel, Waits
from tonnage.server.models.service import Service
from tonnage.server.observe.activity import TtlCache
from tonnage.server.observe.log import REQUEST, RequestContext, frames_of, log
from tonnage.server.observe.metrics import Requests

Measure = Callable[[Mapping[str, ServedEngine], Mapping[str, int]], Ledger]
_USUAL_LOAD_S = 2.0


class _ClosingError(Exception):
    """The server ends, so nothing is loaded any more."""


class ModelPool:
    """All models of a server. `close` when its event loop has ended."""

    def __init__(
        self,
        models: Sequence[ServedModel],
        capacity_bytes: int,
        measure: Measure,
        *,
        waits: Waits | None = None,
        release: Callable[[], None] = lambda: None,
        all_together_bytes: int | None = None,
    ) -> None:
        """capacity_bytes: for all models in memory. measure: returns the ledger of the process.

        release: gives freed memory back to the system. all_together_bytes: with which all models
        would be side by side, where it is known.
        """
        self.all_together_bytes = all_together_bytes
        self.models = tuple(models)
        self.requests = Requests()
        self.created_s = int(time())
        self.num_connections: Callable[[], int] = lambda: 0
        self.policy = LoadPolicy(
            {model.name: model.size for model in models},
            capacity_bytes,
            pinned=[model.name for model in models if model.pinned],
        )
        self._by_name = {name: model for model in models for name in model.names}
        self._measure = measure
        self._waits = waits or Waits()
        self._release = release
        self._tickets: dict[int, asyncio.Future[HttpError | None]] = {}
        self._asked_by: dict[str, RequestContext | None] = {}  # who waits first for a model
        self._leaving: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._load_s = _USUAL_LOAD_S
        self._draining = False
        # One loads and unloads, so that bytes are given back before others are taken.
        self._loader = ThreadPoolExecutor(1, "models")
        self._looker = ThreadPoolExecutor(1, "ledger")
        self._ledger = TtlCache(self._take_ledger)

    @classmethod
    def around(cls, service: Service) -> "ModelPool":
        """Return a pool of one model that is open already, and stays with its owner."""
        engine = service.engine
        size = Size(engine.planned_bytes, engine.planned_bytes)
        model = ServedModel(
            service.names, size, service.context_tokens, lambda metrics, on_load: service,
            pinned=True, metrics=service.metrics,
        )  # fmt: skip
        pool = cls([model], size.loading_bytes, lambda engines, placed: engine.ledger())
        pool.load_now(model.name)
        return pool

    def find(self, name: str | None) -> ServedModel:
        """Return the model called `name`, the first one for None. Raises HttpError 404."""
        model = self.models[0] if name is None else self._by_name.get(name)
        if model is None:
            assert name is not None
            raise HttpError(
                404,
                f"There is no model {name[:80]!r} here; this server has "
                f"{', '.join(self._by_name)}.",
                code="model_not_found",
                param="model",
            )
        return model

    def state(self, model: ServedModel) -> State:
        """Return where a model is."""
        return self.policy.state(model.name)

    def load_now(self, name: str, on_load: OnLoad = lambda done, total: None) -> None:
        """Load a model before the server begins. Raises what loading raises."""
        model = self.find(name)
        self.policy.ask(model.name, 0)
        assert self.policy.decide(0) == [Load(model.name)]
        begin = perf_counter_ns()
        model.loaded_stamp = model.stamp()
        model.service = model.open(model.metrics, on_load)
        self._loaded(model, begin)
        self.policy.decide(0)
        self.policy.finish(model.name)

    @asynccontextmanager
    async def using(self, name: str | None) -> AsyncIterator[Service]:
        """Keep a model in memory for one request, which waits until it is loaded.

        Raises HttpError: 404 for an unknown name, 429 when too many wait, 503 when it cannot be
        loaded, or not in time.
        """
        model = self.find(name)
        await self._admission(model)
        try:
            assert model.service is not None
            yield model.service
        finally:
            self.policy.finish(model.name)
            self._advance()

    async def unload(self, name: str) -> None:
        """Take a model out of memory once no request uses it; returns when its bytes are free.

        Raises HttpError: 409 for a model that is pinned or just being loaded, 503 when it is in use
        for too long.
        """
        model = self.find(name)
        if model.pinned:
            raise HttpError(409, f"{model.name} is pinned, so it stays.", code="model_pinned")
        if self.state(model) == "loading":
            raise self._not_now(409, f"{model.name} is being loaded; unload it after that.")
        if self.state(model) == "unloaded":
            return
        self.policy.dismiss(model.name)
        left = self._leaving.setdefault(model.name, asyncio.Event())
        self._advance()
        try:
            async with asyncio.timeout(self._waits.seconds):
                await left.wait()
        except TimeoutError:
            self.policy.keep(model.name)
            self._advance()
            used = self.policy.users(model.name)
            raise self._not_now(
                503, f"{model.name} is still in use by {used} requests, so it was not unloaded."
            ) from None

    def replace_changed(self) -> list[str]:
        """Unload models whose files have changed, once no request uses them; return their names.

        Requests that come meanwhile wait, and the first of them loads the model anew. What is
        pinned stays as it is.
        """
        loaded = (one for one in self.models if self.state(one) == "loaded" and not one.pinned)
        changed = [model.name for model in loaded if model.stamp() not in ("", model.loaded_stamp)]
        for name in changed:
            self.policy.dismiss(name)
        self._advance()
        return changed

    @contextmanager
    def observed(self) -> Iterator[dict[str, Service]]:
        """Keep what is loaded from being closed while it is looked at, for moments only."""
        seen = [model for model in self.models if self.state(model) == "loaded"]
        for model in seen:
            model.num_observers += 1
        try:
            yield {model.name: model.service for model in seen if model.service is not None}
        finally:
            for model in seen:
                model.num_observers -= 1
                if model.unobserved is not None and not model.num_observers:
                    model.unobserved.set()

    async def ledger(self) -> Ledger:
        """Return every item of the process as it was at most 0.2 s ago."""
        return await self._ledger.get()

    async def _take_ledger(self) -> Ledger:
        with self.observed() as services:
            engines = {name: service.engine for name, service in services.items()}
            placed = {m.name: m.placed_bytes for m in self.models if self.state(m) == "loading"}
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._looker, lambda: self._measure(engines, placed))

    def drain(self) -> None:
        """Load nothing more and refuse who waits for that; running answers go on."""
        self._draining = True
        for ticket, admitted in list(self._tickets.items()):
            self.policy.withdraw(ticket)
            admitted.set_result(draining())
        self._tickets.clear()

    def close(self) -> None:
        """Close all models that were opened here."""
        self._draining = True
        self._loader.shutdown(cancel_futures=True)
        self._looker.shutdown(cancel_futures=True)
        for model in self.models:
            if model.service is not None:
                self._close(model)

    async def _admission(self, model: ServedModel) -> None:
        """Wait until `model` may be used; the caller has to call `policy.finish` in the end."""
        if self._draining:
            raise draining()
        if model.service is None:
            self._asked_by.setdefault(model.name, REQUEST.get())
        ticket = self.policy.ask(model.name, perf_counter_ns())
        admitted: asyncio.Future[HttpError | None] = asyncio.get_running_loop().create_future()
        self._tickets[ticket] = admitted
        self._advance()
        if not admitted.done():
            try:
                self._require_place()
                await asyncio.wait([admitted], timeout=self._waits.seconds)
                if not admitted.done():
                    raise self._not_now(503, self._why_not(model), "model_not_ready")
            except BaseException:
                self._abandon(model, ticket, admitted)
                raise
        refusal = admitted.result()
        if refusal is not None:
            raise refusal

    def _require_place(self) -> None:
        waiting = self.policy.num_waiting
        if waiting > self._waits.requests:
            raise too_many(
                f"{waiting - 1} requests wait for models to be loaded, and no more may.",
                self._load_s,
            )

    def _abandon(
        self, model: ServedModel, ticket: int, admitted: "asyncio.Future[HttpError | None]"
    ) -> None:
        if admitted.done():
            if admitted.result() is None:
                self.policy.finish(model.name)
        else:
            del self._tickets[ticket]
            self.policy.withdraw(ticket)
        self._advance()

    def _why_not(self, model: ServedModel) -> str:
        waited = f"{model.name} could not be loaded within {self._waits.seconds:g} s"
        users = {one.name: self.policy.users(one.name) for one in self.models}
        busy = ", ".join(f"{name} ({count})" for name, count in users.items() if count)
        return f"{waited}: {busy} are in use and need its bytes." if busy else f"{waited}."

    def _not_now(self, status: int, sentence: str, code: str = "model_busy") -> HttpError:
        wait_s = str(max(1, math.ceil(self._load_s)))
        return HttpError(status, sentence, code=code, headers={"retry-after": wait_s})

    def _advance(self) -> None:
        """Do what the policy wants now, and come back when it may want something else."""
        now = perf_counter_ns()
        for action in self.policy.decide(now):
            match action:
                case Admit(ticket):
                    self._tickets.pop(ticket).set_result(None)
                case Load(name):
                    self._begin(self._load(self._by_name[name]))
                case _:
                    self._begin(self._unload(self._by_name[action.model]))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        look = self.policy.next_decision_ns()
        if look is not None and look > now:
            pause_s = (look - now) * 1e-9 + 0.001
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._advance)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load(self, model: ServedModel) -> None:
        loop = asyncio.get_running_loop()
        begin = perf_counter_ns()
        asked_by = self._asked_by.pop(model.name, None)
        # In a context of its own: what is logged meanwhile is about that request.
        opening = partial(copy_context().run, self._open, model, asked_by)
        problem = await loop.run_in_executor(self._loader, opening)
        model.failed = problem is not None
        if problem is None:
            self._loaded(model, begin)
        else:
            for ticket in self.policy.failed(model.name):
                sentence = f"{model.name} could not be loaded; the server's log says why."
                self._tickets.pop(ticket).set_result(
                    self._not_now(503, sentence, "model_load_failed")
                )
        self._advance()

    def _loaded(self, model: ServedModel, begin_ns: int) -> None:
        self._load_s = (perf_counter_ns() - begin_ns) * 1e-9
        model.metrics.loads += 1
        model.metrics.load.add(self._load_s)
        self.policy.loaded(model.name)
        self._ledger = TtlCache(self._take_ledger)  # what was seen before is not so any more

    def _open(self, model: ServedModel, asked_by: RequestContext | None) -> str | None:
        """Load in the thread for that; return what went wrong. asked_by: whom the log names."""
        REQUEST.set(asked_by)

        def on_load(done_bytes: int, all_bytes: int) -> None:
            model.placed_bytes = done_bytes
            if self._draining:
                raise _ClosingError

        frames = ""
        try:
            model.loaded_stamp = model.stamp()
            model.service = model.open(model.metrics, on_load)
            return None
        except _ClosingError:
            problem = "the server is ending"
        except TonnageError as error:
            problem = str(error)
        except Exception as error:
            problem, frames = f"{type(error).__name__}: {error}", frames_of(error)
        finally:
            model.placed_bytes = 0
        # Behind the handlers, so that no traceback holds what was loaded.
        self._release()
        if not self._draining:
            log(logging.ERROR, f"{model.name} was not loaded: {problem}", traceback=frames)
        return problem

    async def _unload(self, model: ServedModel) -> None:
        if model.num_observers:
            model.unobserved = asyncio.Event()
            await model.unobserved.wait()
            model.unobserved = None
        await asyncio.get_running_loop().run_in_executor(self._loader, self._close, model)
        model.metrics.unloads += 1
        self.policy.unloaded(model.name)
        self._ledger = TtlCache(self._take_ledger)
        if left := self._leaving.pop(model.name, None):
            left.set()
        self._advance()

    def _close(self, model: ServedModel) -> None:
        """Close a model; nothing refers to it when its bytes are given back."""
        service, model.service = model.service, None
        assert service is not None
        service.close()
        service.engine.close()
        del service
        self._release()


def draining() -> HttpError:
    """Return what is said while the server ends."""
    return HttpError(
        503, "The server is shutting down.", headers={"retry-after": "5"}, code="draining"
    )
