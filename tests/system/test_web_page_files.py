"""The files of the web page, and what /memory and /metrics say of the engine."""

import asyncio
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import tonnage
from support.live_server import NAME, Live, live, write_chat_model
from support.rates import made_up_rates
from tonnage.engine.engine import Engine
from tonnage.engine.expectation import Expectation
from tonnage.machine.probe import read_machine
from tonnage.server.observe.metric_names import OLD_NAMES

STATES = ("free", "cached", "used")
STATIC = Path(tonnage.__file__).parent / "server" / "static"


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Iterator[Engine]:
    folder = write_chat_model(tmp_path_factory.mktemp("model") / "hf")
    with Engine.open(str(folder), context=512, threads=1, concurrency=2) as engine:
        engine.expectation = Expectation(engine.plan, read_machine(), made_up_rates())
        yield engine


@pytest.fixture(scope="module")
def server(engine) -> Iterator[Live]:
    with live(engine) as server:
        yield server


def ask(
    server: Live, path: str, body: object = None, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    data = None if body is None else json.dumps(body)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent |= {} if body is None else {"Content-Type": "application/json"}
    connection.request("POST" if body is not None else method, path, data, sent)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


def memory(server: Live) -> dict:
    time.sleep(0.25)  # What others saw just now is not told again.
    return json.loads(ask(server, "/memory")[1])


def test_every_file_is_served_as_it_ships(server):
    names = [p for p in STATIC.rglob("*") if p.suffix in (".html", ".css", ".js", ".svg")]
    assert len(names) > 15
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    for path in names:
        answer, content = ask(server, f"/static/{path.relative_to(STATIC).as_posix()}")
        assert (answer.status, content) == (200, path.read_bytes())
        kind = answer.headers["content-type"]
        assert kind.partition(";")[0] == kinds.get(path.suffix, "text/html")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; ")
        assert "unsafe" not in policy
    assert ask(server, "/")[1] == (STATIC / "index.html").read_bytes()


def test_a_file_that_the_browser_has_is_not_sent_again(server):
    first, _ = ask(server, "/")
    again, content = ask(server, "/", If_None_Match=first.headers["etag"])
    assert (again.status, content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert ask(server, "/", If_None_Match='"other"')[0].status == 200
    head, content = ask(server, "/", method="HEAD")
    assert (head.status, content) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/static/", "/static/../page.py", "/static/..%2fpage.py", "/static//etc/passwd",
        "/static/app", "/static/vendor/README.md", "/static/app/main.js%00", "/index.html",
    ],
)  # fmt: skip
def test_nothing_else_is_served(server, path):
    assert ask(server, path)[0].status == 404


def test_the_page_answers_this_machine_alone(server):
    assert ask(server, "/", Host="evil.example")[0].status == 403
    assert ask(server, "/", body={})[0].status == 405


def test_the_interface_does_not_name_the_page(server):
    paths = json.loads(ask(server, "/openapi.json")[1])["paths"]
    assert not [path for path in paths if path == "/" or path.startswith("/static")]


def test_memory_tells_shapes_of_what_is_going_on(server, engine):
    engine_pages = 2 * 512 // 64
    body = {"model": NAME, "prompt": "secret words " * 20, "max_tokens": 100, "temperature": 0}
    answer, content = ask(server, "/v1/completions", body)
    assert answer.status == 200, content
    told = memory(server)
    pages = told["pages"]
    assert pages["total"] == engine_pages
    assert pages["free"] + pages["cached"] + pages["used"] == pages["total"]
    assert (pages["used"], pages["sequences"]) == (0, [])
    assert pages["cached"] == sum(root["pages"] for root in told["prefix"]["roots"])
    assert told["prefix"]["hidden_nodes"] == 0
    usage = json.loads(content)["usage"]
    # The last token was drawn and never computed.
    assert told["prefix"]["roots"][0]["tokens"] == usage["total_tokens"] - 1
    assert 0 <= told["prefix"]["roots"][0]["idle_s"] < 20
    assert told["ladder"] == []
    assert "secret" not in json.dumps(told)
    speed = told["speed"]
    assert speed["decode_tokens_per_s"] > 0
    assert speed["forecast_tokens_per_s"] > 0
    assert speed["bandwidth_share"] > 0


def test_memory_tells_what_runs(server, engine):
    async def watched() -> dict:
        one = engine.stream([1, 2, 3], max_tokens=400, temperature=0, ignore_eos=True)
        async with one:
            async for _ in one:
                return await asyncio.to_thread(memory, server)

    (running,) = asyncio.run(watched())["pages"]["sequences"]
    assert running["state"] in ("writing", "paused")
    assert running["tokens"] > 3
    assert running["pages"] == -(-(running["tokens"] - 1) // 64)
    assert running["shared_pages"] == 0


def test_metrics_tell_the_same_numbers(server):
    body = {"model": NAME, "prompt": "x", "max_tokens": 20, "temperature": 0}
    ask(server, "/v1/completions", body)
    time.sleep(0.25)
    lines = ask(server, "/metrics")[1].decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if line[0] != "#"]
    known = {name.replace('{model="tiny"}', ""): float(value) for name, _, value in pairs}
    assert known["tonnage_requests_waiting"] == 0
    by_state = {s: known[f'tonnage_kv_pages{{model="tiny",state="{s}"}}'] for s in STATES}
    assert by_state["used"] == 0
    assert sum(by_state.values()) == known["tonnage_kv_pages_capacity"]
    measured, expected = (
        known["tonnage_decode_tokens_per_second"],
        known["tonnage_forecast_tokens_per_second"],
    )
    assert known["tonnage_forecast_error_ratio"] == pytest.approx(measured / expected - 1, abs=1e-3)
    assert known["tonnage_memory_bandwidth_ratio"] > 0
    assert known['tonnage_memory_pressure_total{model="tiny",level="refuse"}'] == 0
    for old, (new, labels) in OLD_NAMES.items():
        inside = "".join(f',{name}="{value}"' for name, value in labels.items())
        named = f'{new}{{model="tiny"{inside}}}' if inside else new
        if old != "tonnage_pressure_total":
            assert known[old] == known[named]
    assert known['tonnage_pressure_total{model="tiny",rung="refuse"}'] == 0
    assert known["tonnage_cached_prompt_tokens_total"] >= 0


def test_however_many_look_on_the_memory_is_measured_five_times_a_second(
    server, engine, monkeypatch
):
    measured = []
    ledger = engine.ledger
    monkeypatch.setattr(engine, "ledger", lambda: (measured.append(1), ledger())[1])
    time.sleep(0.25)
    begin = time.monotonic()
    for path in 10 * ("/memory", "/metrics"):
        assert ask(server, path)[0].status == 200
    assert 1 <= len(measured) <= 1 + (time.monotonic() - begin) / 0.2
