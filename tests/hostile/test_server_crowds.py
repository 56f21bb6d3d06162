"""`tonnage serve` as a process, and more of everything than it was made for: it stays in its plan.

10,000 connections, bodies of 1 GiB, readers that never read, keys guessed by the thousand, and
clocks held against what other tenants have computed.
"""

import asyncio
import contextlib
import json
import random
import resource
import socket
import time
import urllib.error
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from support.command import refused, tonnage
from support.http_client import Client
from support.live_server import NAME, live, write_chat_model
from support.serve_process import fetched, serving
from tonnage.core.footprint import CONNECTION_BYTES
from tonnage.engine.engine import Engine
from tonnage.server.http.failures import HttpError
from tonnage.server.models.tenants import read_tenants

CROWD = 10_000


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_chat_model(tmp_path_factory.mktemp("model") / "hf")


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def memory(url: str) -> tuple[int, int, int]:
    """Return (resident, peak, planned) bytes."""
    time.sleep(0.25)  # a look is shared for 0.2 s
    told = fetched(f"{url}/memory")
    return told["rss_bytes"], told["peak_rss_bytes"], told["total_bytes"]


@contextlib.contextmanager
def crowd(port: int, count: int = CROWD) -> Iterator[None]:
    """Connect 10,000 times, or `count`; skips where so many files may not be open.

    Not faster than they are accepted: a connection too many is tried again after a second.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + 1000:
        pytest.skip(f"only {hard:,} files may be open; {count + 1000:,} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for number in range(count):
            sock = stack.enter_context(contextlib.closing(socket.socket()))
            sock.connect(("127.0.0.1", port))
            if number % 500 == 499:
                time.sleep(0.1)
        yield


@contextlib.contextmanager
def streaming(port: int, num_tokens: int) -> Iterator[HTTPResponse]:
    """Yield an answer of so many tokens that has begun."""
    body = {"model": "hf", "prompt": "x", "temperature": 0, "stream": True}
    body["max_tokens"] = num_tokens
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        head = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/completions", json.dumps(body), head)
        answer = connection.getresponse()
        assert answer.readline().startswith(b"data: ")
        yield answer


def is_whole(answer: HTTPResponse) -> bool:
    rest = answer.read()
    return rest.endswith(b"data: [DONE]\n\n") and b'"finish_reason":"length"' in rest


def test_10000_idle_connections_are_in_the_plan(model, tmp_path, capsys):
    with serving(tmp_path, model, "--connections", CROWD + 100) as (_, url):
        before = memory(url)[0]
        with streaming(port_of(url), 3000) as answer, crowd(port_of(url)):
            assert is_whole(answer)
            now, peak, planned = memory(url)
        each = (now - before) / CROWD
        with capsys.disabled():
            print(f"\n  {each:.0f} bytes for an idle connection", end="")
        assert 1000 < each <= CONNECTION_BYTES
        assert peak <= planned


def test_3000_connections_to_a_server_of_64(model, tmp_path):
    with serving(tmp_path, model, "--connections", 64) as (_, url):
        with streaming(port_of(url), 3000) as answer, crowd(port_of(url), 3000):
            assert fetched(f"{url}/health") == {"status": "ok"}
            assert is_whole(answer)
        _, peak, planned = memory(url)
        assert peak <= planned


def test_more_files_than_may_be_open_are_refused(model, tmp_path):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or hard > 60_000:
        pytest.skip("as many files may be open as there may be connections")
    said = refused(tonnage(tmp_path, "serve", model, "--port", 0, "--connections", 65_536))
    assert f"may have {hard:,}" in said


def test_who_comes_when_all_are_busy_is_told(model, tmp_path):
    with serving(tmp_path, model, "--connections", 3) as (_, url), contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(streaming(port_of(url), 60_000))
        with pytest.raises(urllib.error.HTTPError, match="503") as caught:
            fetched(f"{url}/health")
        assert caught.value.headers["retry-after"] == "1"
        assert json.load(caught.value)["error"]["code"] == "busy"
        caught.value.close()


GIB = 1 << 30


@pytest.mark.parametrize(
    ("fields", "begin"),
    [
        (f"Content-Length: {GIB}", b""),
        ("Transfer-Encoding: chunked", b"10000\r\n"),
        ("Transfer-Encoding: chunked\r\nExpect: 100-continue", b"10000\r\n"),
    ],
)
def test_a_body_of_1_gib_is_refused_early(small, fields, begin):
    end = b"\r\n" if begin else b""
    piece = begin + b"x" * 65_536 + end
    with contextlib.closing(socket.create_connection(("127.0.0.1", port_of(small)))) as sock:
        sock.settimeout(20)
        head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
        sock.sendall(f"{head}\r\n{fields}\r\n\r\n".encode())
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < GIB:
                sock.sendall(piece)
                sent += len(piece)
        answer = sock.recv(65_536)
    assert sent < 32 << 20
    assert b"HTTP/1.1 413 " in answer
    _, peak, planned = memory(small)
    assert peak <= planned


def test_answers_that_nobody_reads_are_bounded(small):
    """Each is of 1 MiB and more; 60 of them would be many times what the server may take."""
    body = json.dumps({"content": "x y " * 60_000, "with_pieces": True}).encode()
    head = (
        "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with contextlib.ExitStack() as stack:
        socks = []
        for _ in range(60):
            sock = stack.enter_context(contextlib.closing(socket.socket()))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", port_of(small)))
            sock.sendall(head.encode() + body)
            sock.settimeout(20)
            socks.append(sock)
        heads = [sock.recv(12, socket.MSG_PEEK) for sock in socks]
        assert fetched(f"{small}/health") == {"status": "ok"}
        _, peak, planned = memory(small)
    assert heads.count(b"HTTP/1.1 200") > 0
    assert heads.count(b"HTTP/1.1 503") > 0
    assert peak <= planned


def large_requests(model: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield a request of nearly 256 KiB for every way to make the server hold much."""
    size = 250_000
    common = {"model": model, "max_tokens": 2}
    words, told = "1 a " * (size // 4), {"role": "user", "content": "x"}
    yield "/v1/completions", {**common, "prompt": words}
    yield "/v1/completions", {**common, "prompt": [999] * (size // 5)}
    yield "/v1/completions", {**common, "prompt": [[99] * (size // 280)] * 64}
    chat = "/v1/chat/completions"
    yield chat, {**common, "messages": [{**told, "content": words}]}
    yield chat, {**common, "messages": [{**told, "content": words}], "truncation": "middle"}
    yield chat, {**common, "messages": [told] * (size // 70)}
    function = {"name": "f", "parameters": {f"p{i}": {"a": [1]} for i in range(size // 6800)}}
    tools = [{"type": "function", "function": function}] * 50
    yield chat, {**common, "messages": [told], "tools": tools}
    yield "/v1/messages", {**common, "messages": [{**told, "content": words}]}
    yield "/tokenize", {"content": words}
    yield "/tokenize", {"content": words, "with_pieces": True}
    yield "/detokenize", {"tokens": [99] * (size // 4)}
    counts = {"max_tokens": 180, "ignore_eos": True, "n": 4}
    yield chat, {**common, "messages": [told], **counts, "logprobs": True, "top_logprobs": 20}
    few = {**counts, "max_tokens": 30}
    yield "/v1/completions", {**common, "prompt": "x", **few, "logprobs": 20}


def test_large_requests_of_every_kind_stay_in_the_plan(model, tmp_path, capsys):
    async def ask(port: int) -> list[int]:
        client = Client(port)
        statuses = [
            (await client.ask("POST", path, body)).status for path, body in large_requests("hf")
        ]
        client.close()
        return statuses

    with serving(tmp_path, model, "--context", 2048) as (_, url):
        statuses = asyncio.run(ask(port_of(url)))
        now, peak, planned = memory(url)
    with capsys.disabled():
        peak_mib, planned_mib = peak / 2**20, planned / 2**20
        print(f"\n  {now / 2**20:.1f}, peak {peak_mib:.1f} of {planned_mib:.1f} MiB", end="")
    assert set(statuses) == {200, 400}
    assert peak <= planned


@pytest.fixture(scope="module")
def small(model, tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("home")
    with serving(folder, model, "--context", 2048, "--connections", 80) as (_, url):
        yield url


# Which of two samples is the larger, without a word about how they are distributed.
def larger(ones: list[float], others: list[float]) -> float:
    """Return how many deviations the ranks of `ones` lie above chance (Mann and Whitney 1947)."""
    wins = sum((one > other) + (one == other) / 2 for one in ones for other in others)
    m, n = len(ones), len(others)
    return (wins - m * n / 2) / (m * n * (m + n + 1) / 12) ** 0.5


@pytest.mark.quiet
def test_the_clock_does_not_tell_what_another_tenant_has_asked(model, tmp_path):
    keys = {"joe": "joe-0123456789abcdef", "amy": "amy-0123456789abcdef"}
    (tmp_path / "keys.toml").write_text(
        "".join(f'[tenant.{name}]\nkey = "{key}"\n' for name, key in keys.items())
    )
    tenants = read_tenants(tmp_path / "keys.toml", None)
    rng = random.Random(1)
    times: dict[str, list[float]] = {"own": [], "another's": [], "nobody's": []}

    async def ask(client: Client, name: str, prompt: list[int]) -> float:
        body = {"model": NAME, "prompt": prompt, "max_tokens": 1}
        begin = time.perf_counter()
        reply = await client.ask(
            "POST", "/v1/completions", body, Authorization=f"Bearer {keys[name]}"
        )
        assert reply.status == 200
        return time.perf_counter() - begin

    async def rounds(port: int) -> None:
        client = Client(port)
        for number in range(25):
            secret, fresh = ([rng.randrange(200) for _ in range(1500)] for _ in range(2))
            await ask(client, "joe", secret)
            asked = {
                "own": ("joe", secret),
                "another's": ("amy", secret),
                "nobody's": ("amy", fresh),
            }
            for kind in rng.sample(sorted(asked), 3):
                seconds = await ask(client, *asked[kind])
                if number >= 3:
                    times[kind].append(seconds)
        client.close()

    with (
        Engine.open(str(model), context=2048, concurrency=16, threads=1) as engine,
        live(engine, tenants=tenants) as server,
    ):
        asyncio.run(rounds(server.port))
    assert larger(times["nobody's"], times["own"]) > 4  # such a difference would be seen
    assert abs(larger(times["nobody's"], times["another's"])) < 4


@pytest.mark.quiet
def test_the_time_of_a_wrong_key_tells_nothing(tmp_path):
    keys = [f"key-{number:03}-{'x' * 24}" for number in range(200)]
    (tmp_path / "keys.toml").write_text(
        "".join(f'[tenant.t{i}]\nkey = "{key}"\n' for i, key in enumerate(keys))
    )
    tenants = read_tenants(tmp_path / "keys.toml", None)

    def fastest_ns(key: str) -> int:
        headers = {"authorization": f"Bearer {key}"}

        def one() -> int:
            begin = time.perf_counter_ns()
            with contextlib.suppress(HttpError):
                tenants.of(headers)
            return time.perf_counter_ns() - begin

        return min(one() for _ in range(300))

    right = [fastest_ns(keys[0]), fastest_ns(keys[-1])]
    wrong = [fastest_ns(keys[0][:-1] + "y"), fastest_ns("y" * 32), fastest_ns("")]
    assert max(right) < 1.2 * min(right)
    assert max(wrong) < 1.2 * min(wrong)


def test_guesses_by_the_thousand_delay_nobody(model, tmp_path):
    key = "key-0123456789abcdef"
    with serving(tmp_path, model, TONNAGE_API_KEY=key) as (_, url):

        async def guess(client: Client, first: int) -> None:
            for number in range(first, first + 500):
                reply = await client.ask("GET", "/v1/models", Authorization=f"Bearer {number}")
                assert reply.status == 401

        async def all_() -> tuple[float, bytes]:
            body = {"model": "hf", "prompt": "x", "max_tokens": 30}
            clients = [Client(port_of(url)) for _ in range(9)]
            guesses = [asyncio.create_task(guess(c, 500 * i)) for i, c in enumerate(clients[1:])]
            waits = []
            while not all(task.done() for task in guesses):
                begin = time.perf_counter()
                reply = await clients[0].ask(
                    "POST", "/v1/completions", body, Authorization=f"Bearer {key}"
                )
                assert reply.status == 200
                waits.append(time.perf_counter() - begin)
            await asyncio.gather(*guesses)
            metrics = await clients[0].ask("GET", "/metrics", Authorization=f"Bearer {key}")
            for client in clients:
                client.close()
            return max(waits), metrics.body

        longest_s, metrics = asyncio.run(all_())
    assert b'{path="/v1/models",status="401"} 4000' in metrics
    assert longest_s < 2
