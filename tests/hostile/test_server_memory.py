"""What an untrusted client may send to make the server hold much: every shape stays in the plan.

Shapes that once took hundreds of mebibytes: a thousand answers to one small request, empty lists by
the hundred thousand, a header of four thousand lines, JSON in the text of a call.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.live_server import write_chat_model
from support.serve_process import fetched, serving

SIZE = 250_000
# What has to be left of the plan whatever comes.
MARGIN_BYTES = 1 << 20
TELL = {"role": "user", "content": "x"}
COMMON = {"model": "hf", "max_tokens": 1}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[tuple[int, str]]:
    """Yield the id and the address of a server."""
    model = write_chat_model(tmp_path_factory.mktemp("model") / "hf")
    with serving(tmp_path_factory.mktemp("home"), model, "--context", 2048) as (process, url):
        yield process.pid, url


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def peak_bytes(pid: int) -> int:
    """Return VmHWM: the server's own figure may be 0.2 s old."""
    status = Path(f"/proc/{pid}/status").read_text()
    lines = (line.partition(":") for line in status.splitlines())
    return next(int(value.split()[0]) << 10 for name, _, value in lines if name == "VmHWM")


def post(path: str, body: object, fields: str = "") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{fields}"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def chat(**fields: object) -> bytes:
    return post("/v1/chat/completions", {**COMMON, "messages": [TELL], **fields})


def completion(**fields: object) -> bytes:
    return post("/v1/completions", {**COMMON, "prompt": "x", **fields})


def variables(values: list[str]) -> bytes:
    """Return a chat with so many values, as JSON, that are handed to the template."""
    body = json.dumps({**COMMON, "messages": [TELL], "chat_template_kwargs": {"a": 0}})
    text = body.replace('"a": 0', f'"a":[{",".join(values)}]')
    return post("/v1/chat/completions", text.encode())


def said(text: str) -> bytes:
    return chat(messages=[{"role": "user", "content": text}])


def call(arguments: str) -> bytes:
    function = {"name": "f", "arguments": arguments}
    turn = {"role": "assistant", "content": "x", "tool_calls": [{"function": function}]}
    return chat(messages=[turn])


def answers(count: int, **fields: object) -> bytes:
    return completion(prompt=["x"] * (count // 16), n=16, ignore_eos=True, **fields)


def lines(count: int) -> bytes:
    return chat().replace(b"\r\n", b"\r\n" + b"".join(b"h%d:\r\n" % n for n in range(count)), 1)


SHAPES: dict[str, tuple[Callable[[], bytes], int, set[str]]] = {
    "a thousand answers to each of sixty": (
        lambda: answers(1024, max_tokens=1500, logit_bias={str(i): 1 for i in range(300)}),
        60, {"400"},
    ),
    "as many answers as there is room for": (
        lambda: answers(64, max_tokens=8), 6, {"200", "429"},
    ),
    "long prompts in many answers": (
        lambda: completion(prompt=[[n % 256 for n in range(1500)]] * 3, n=16), 6, {"200", "429"},
    ),
    "empty lists": (lambda: variables(["[]"] * (SIZE // 3)), 8, {"413"}),
    "as many lists as there may be": (
        lambda: variables(['{"a":0}'] * 3800 + ["1e9"] * (SIZE // 5)), 8, {"200"},
    ),
    "messages without content": (
        lambda: chat(messages=[{"role": "user"}] * 3800), 8, {"400"},
    ),
    "lists in the text of a call": (lambda: call("[" + "[]," * 60_000 + "0]"), 8, {"413"}),
    "control tokens": (lambda: said("<|end|>" * (SIZE // 7)), 8, {"400"}),
    "wide letters": (lambda: said("a" * (SIZE - 100) + "\U0001f600"), 8, {"400"}),
    "thousands of fields": (lambda: lines(3000), 100, {"431"}),
    "a prompt in every answer": (
        # What the model reads is echoed, and that was cut to the context.
        lambda: completion(prompt=[[65] * (SIZE // 4)], n=16, echo=True, truncation="middle"),
        8, {"200", "429"},
    ),
    "pieces of letters": (
        lambda: post("/tokenize", {"content": "qz" * (SIZE // 2 - 50), "with_pieces": True}),
        20, {"200"},
    ),
    "text of tokens": (
        lambda: post("/detokenize", {"tokens": [65] * (SIZE // 4)}), 20, {"200"},
    ),
}  # fmt: skip


async def status_of(port: int, data: bytes) -> str:
    """Send a request, and return the status alone: nobody reads the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(data)
    try:
        return (await asyncio.wait_for(reader.read(12), 30))[9:].decode()
    except ConnectionError:  # refused before all of it was sent
        return ""
    finally:
        writer.transport.abort()


def test_nothing_that_is_sent_outgrows_the_plan(server, capsys):
    pid, url = server
    port, planned_bytes = port_of(url), fetched(f"{url}/memory")["total_bytes"]
    with capsys.disabled():
        for name, (make, count, expected) in SHAPES.items():
            data = make()

            async def all_(data: bytes = data, count: int = count) -> list[str]:
                return await asyncio.gather(*(status_of(port, data) for _ in range(count)))

            statuses = Counter(asyncio.run(all_()))
            margin = planned_bytes - peak_bytes(pid)
            print(f"\n  {margin / 2**20:5.1f} MiB left, {name}: {dict(statuses)}", end="")
            # More bodies than may be held are a 503, or cut off while they are being sent.
            assert set(statuses) <= {*expected, "503", ""}, name
            assert set(statuses) & expected, name
            assert margin >= MARGIN_BYTES, name
    assert fetched(f"{url}/health") == {"status": "ok"}


def test_what_was_refused_is_no_longer_counted(server):
    port = port_of(server[1])
    assert asyncio.run(status_of(port, answers(64, max_tokens=2))) == "200"
    assert asyncio.run(status_of(port, said("x"))) == "200"
