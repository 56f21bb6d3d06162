"""What answers may hold, counted before it is taken."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from tonnage.core.errors import RequestError
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.generation import Completion, Generation
from tonnage.server.http.decoding import require_few_values
from tonnage.server.http.exchange import BodyBudget, HttpExchange, ServerLimits
from tonnage.server.http.failures import HttpError
from tonnage.server.models.response_memory import ResponseBudget
from tonnage.server.models.service import Service


def test_a_full_room_refuses_until_something_is_given_back():
    room = ResponseBudget(1000)
    room.hold(600)
    with pytest.raises(HttpError, match="600 of 1,000 bytes, and this request takes 500") as caught:
        room.hold(500)
    assert caught.value.status == 429
    assert caught.value.headers == {"retry-after": "1"}
    room.release(600)
    room.hold(1000)
    assert room.held_bytes == 1000


def test_what_never_fits_is_told_so():
    room = ResponseBudget(1000)
    for held, own in ((0, 0), (900, 900)):
        room.held_bytes = held
        with pytest.raises(HttpError, match="together take 1,001 bytes") as caught:
            room.hold(1001 - own, own)
        assert caught.value.status == 400
        assert room.held_bytes == held


def test_a_single_answer_finds_a_place_in_an_empty_room_alone():
    room = ResponseBudget(1000)
    room.hold(5000, is_one=True)
    with pytest.raises(HttpError):
        room.hold(1, is_one=True)
    room.release(5000)
    assert room.held_bytes == 0


@pytest.mark.parametrize(
    ("body", "most"),
    [(b"[[],[]]", 3), (b'{"a":{},"b":[{}]}', 4), (b'{"a":"[[[[{{{\\"[["}', 1), (b'"[[[["', 0)],
)
def test_lists_and_objects_are_counted_outside_of_texts(body, most):
    require_few_values(body, most)
    if most:
        with pytest.raises(HttpError, match=f"{most} lists and objects") as caught:
            require_few_values(body, most - 1)
        assert caught.value.status == 413


def exchange_of(budget: BodyBudget, *parts: bytes) -> HttpExchange:
    events = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    events.append({"type": "http.request", "body": b""})

    async def receive() -> Any:
        return events.pop(0)

    async def send(event: Any) -> None:
        raise AssertionError(event)

    head = [(b"content-type", b"application/json")]
    scope = {"method": "POST", "path": "/", "headers": head}
    return HttpExchange(scope, receive, send, ServerLimits(body_bytes=1 << 15), budget)


def test_a_body_of_too_many_lists_is_refused_before_it_is_decoded():
    few, many = b"[" + b"[]," * 500 + b"0]", b"[" + b"[]," * 512 + b"0]"
    assert asyncio.run(exchange_of(BodyBudget(), few[:100], few[100:]).body()) == few
    with pytest.raises(HttpError, match="513 lists and objects; at most 512"):
        asyncio.run(exchange_of(BodyBudget(), many).body())


def test_one_body_at_a_time_is_prepared_and_what_failed_holds_nothing():
    order: list[str] = []

    async def make(name: str) -> str:
        order.append(f"{name} begins")
        await asyncio.sleep(0)
        order.append(f"{name} ends")
        if name == "b":
            kept = "x" * 1000
            raise RequestError(f"No {len(kept)}.")
        return name

    async def all_() -> list[Any]:
        budget = BodyBudget()
        work = [exchange_of(budget).prepared(lambda name=name: make(name)) for name in "abc"]
        return await asyncio.gather(*work, return_exceptions=True)

    first, failed, last = asyncio.run(all_())
    assert (first, last) == ("a", "c")
    assert order == [f"{name} {what}" for name in "abc" for what in ("begins", "ends")]
    assert isinstance(failed, RequestError)
    trace, names = failed.__traceback__, []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert "make" not in names
    assert failed.__context__ is None


def test_who_is_cancelled_waits_until_the_thread_holds_nothing():
    service: Any = object.__new__(Service)
    release = threading.Event()

    async def all_() -> None:
        work = asyncio.create_task(Service.aside(service, lambda: release.wait(5)))
        await asyncio.sleep(0.01)
        work.cancel()
        await asyncio.sleep(0.01)
        assert not work.done()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await work

    with ThreadPoolExecutor(1) as service._worker:
        asyncio.run(all_())


class Noting:
    """A sampler that notes what it is told."""

    def __init__(self, vocab_size: int, params: object) -> None:
        self.seen: list[int] = []

    def observe(self, token: int) -> None:
        self.seen.append(token)


@pytest.mark.parametrize(("penalty", "seen"), [(1.0, []), (1.1, [5, 6])])
def test_an_answer_that_waits_has_nothing_to_draw_with(monkeypatch, penalty, seen):
    made: list[str] = []
    monkeypatch.setattr("tonnage.engine.generation.Sampler", Noting)
    plan: Any = SimpleNamespace(vocab_size=9, context_tokens=8, family="tiny")
    tokenizer: Any = SimpleNamespace(eos_ids=frozenset())
    constraint: Any = SimpleNamespace(mask=lambda: b"", accept=made.append)
    monkeypatch.setattr(Noting, "set_mask", lambda self, mask: made.append("mask"), raising=False)
    options = SamplingOptions(
        repetition_penalty=penalty, constraint=lambda: made.append("constraint") or constraint
    )
    answer = Completion(Generation([5, 6], options, 0), tokenizer, plan)
    assert made == []
    sampler: Any = answer.row(3)[0]
    assert sampler.seen == seen
    assert made == ["constraint", "mask"]
    assert answer.row(0)[0] is sampler
    assert made == ["constraint", "mask", "mask"]
