"""The comparison of HTTP with the engine: what it takes for a whole answer, and its ratios."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location("http_speed", BENCH / "http_speed.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "http_speed", module)
    spec.loader.exec_module(module)
    return module


def answer(events: list[bytes], status: str = "200 OK") -> bytes:
    chunks = [b"data: " + event + b"\n\n" for event in events]
    sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    head = f"HTTP/1.1 {status}\r\ntransfer-encoding: chunked\r\n\r\n"
    return head.encode() + sent + b"0\r\n\r\n"


def usage(count: int) -> bytes:
    return json.dumps({"choices": [], "usage": {"completion_tokens": count}}).encode()


def test_only_whole_answers_count(bench):
    assert bench.num_events(answer([b"{}", b"{}", usage(7), b"[DONE]"]), 7) == 4
    for bad in (
        answer([b"{}", usage(6), b"[DONE]"]),
        answer([b"{}", usage(7)]),
        answer([b"{}", usage(7), b"[DONE]"], "429 Too Many Requests"),
        answer([b"{}", usage(7), b"[DONE]"])[:-1],
        b"",
    ):
        with pytest.raises(bench.PeerError):
            bench.num_events(bad, 7)


def test_the_ratio_is_that_of_the_medians(bench):
    figures = bench.Figures(8, 128, [100, 100, 400], [95, 90, 96], [1, 2, 3], [1, 1, 1], [80] * 3)
    told = figures.summary()
    assert told["ratio"] == 0.95
    assert told["median_of_ratios"] == 0.9
    assert told["range_of_ratios"] == [0.24, 0.95]
    assert (told["wanted"], told["event_loop_us_per_token"], told["events_per_answer"]) == (
        0.95, 2, 10,
    )  # fmt: skip
