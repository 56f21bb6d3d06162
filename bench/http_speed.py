"""What HTTP costs: tokens per second through `tonnage serve` beside the engine's own, alternating.

    python bench/http_speed.py MODEL.gguf [MODEL.gguf ...]

Both sides are processes of their own with the same model, context, concurrency and threads, and get
the same prompts of random tokens; this process is the client. A figure is new tokens per second,
from sending the requests to the last byte of the last answer; in the engine's process, from the
call to its return. The client reads each event as it comes and looks into none before the end,
because it runs on the same cores: what a client does with events is not the server's.
"""

import argparse
import contextlib
import json
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peers import PeerError
from serving_load import Load

HERE = Path(__file__).parent
WANTED = {1: 0.97, 8: 0.95}
_END = b"\r\n0\r\n\r\n"


@dataclass
class Figures:
    """Tokens per second of each round, and what the server's event loop took per token."""

    rows: int
    new_tokens: int
    engine: list[float] = field(default_factory=list)
    http: list[float] = field(default_factory=list)
    loop_us: list[float] = field(default_factory=list)
    client_us: list[float] = field(default_factory=list)
    num_events: list[int] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return medians, their ratio, and the range of the rounds' ratios."""
        pairs = [http / own for own, http in zip(self.engine, self.http, strict=True)]
        own, http = statistics.median(self.engine), statistics.median(self.http)
        return {
            "rows": self.rows,
            "new_tokens": self.new_tokens,
            "engine_tokens_per_s": own,
            "http_tokens_per_s": http,
            "ratio": http / own,
            "median_of_ratios": statistics.median(pairs),
            "range_of_ratios": [min(pairs), max(pairs)],
            "wanted": WANTED.get(self.rows),
            "event_loop_us_per_token": statistics.median(self.loop_us),
            "client_us_per_token": statistics.median(self.client_us),
            "events_per_answer": statistics.median(self.num_events) / self.rows,
        }


class EngineSide:
    """An engine in a process of its own, which runs what it is told on its standard input."""

    def __init__(self, model: str, args: argparse.Namespace) -> None:
        """Start it; returns when the model is loaded."""
        sizes = [args.context, args.concurrency, args.threads]
        command = [sys.executable, str(HERE / "http_speed_engine.py"), model, *map(str, sizes)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.vocab_size = int(self._answer()["vocab_size"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PeerError("the engine's process ended")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def seconds(self, prompts: list[list[int]], new_tokens: int) -> float:
        """Return how long the engine takes for these prompts."""
        assert self._process.stdin is not None
        print(json.dumps([prompts, new_tokens]), file=self._process.stdin, flush=True)
        return float(self._answer()["seconds"])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


class HttpSide:
    """`tonnage serve` in a process of its own, and a client of few instructions."""

    def __init__(self, model: str, args: argparse.Namespace) -> None:
        """Start it; returns when it listens."""
        self._name = Path(model).stem
        options = {
            "--port": 0,
            "--context": args.context,
            "--concurrency": args.concurrency,
            "--threads": args.threads,
        }
        command = [sys.executable, "-m", "tonnage", "serve", model]
        command += [str(word) for pair in options.items() for word in pair]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if " at http://" in line:
                self._port = int(line.split(" at ")[1].split()[0].rpartition(":")[2])
                break
        else:
            raise PeerError("tonnage serve did not start")
        self._sockets: list[socket.socket] = []

    def loop_ns(self) -> int:
        """Return the processor time that the thread of the event loop has had."""
        pid = self._process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0])

    def seconds(self, prompts: list[list[int]], new_tokens: int) -> tuple[float, int]:
        """Return how long these answers take as streams, and of how many events they were.

        Raises PeerError when an answer is not whole.
        """
        while len(self._sockets) < len(prompts):
            sock = socket.create_connection(("127.0.0.1", self._port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets.append(sock)
        requests = [self._request(prompt, new_tokens) for prompt in prompts]
        sockets = self._sockets[: len(prompts)]
        begin = time.perf_counter()
        for sock, request in zip(sockets, requests, strict=True):
            sock.sendall(request)
        answers = _read_all(sockets)
        seconds = time.perf_counter() - begin
        return seconds, sum(num_events(answer, new_tokens) for answer in answers)

    def _request(self, prompt: list[int], new_tokens: int) -> bytes:
        body = {
            "model": self._name,
            "prompt": prompt,
            "max_tokens": new_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        data = json.dumps(body).encode()
        head = (
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        return head.encode() + data

    def close(self) -> None:
        """End the server."""
        for sock in self._sockets:
            sock.close()
        self._process.terminate()
        self._process.wait(60)
        assert self._process.stderr is not None
        self._process.stderr.close()


def _read_all(sockets: list[socket.socket]) -> list[bytes]:
    """Return each socket's whole answer."""
    found = {sock: bytearray() for sock in sockets}
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ, found[sock])
        left = len(sockets)
        while left:
            for key, _ in selector.select():
                sock, answer = key.fileobj, key.data
                assert isinstance(sock, socket.socket)
                part = sock.recv(65_536)
                answer += part
                if not part or answer.endswith(_END):
                    selector.unregister(sock)
                    left -= 1
    return [bytes(found[sock]) for sock in sockets]


def num_events(answer: bytes, new_tokens: int) -> int:
    """Return the number of events of an answer in chunks. Raises PeerError unless it is whole."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0] or not answer.endswith(_END):
        raise PeerError(f"the server answered {answer[:200]!r}")
    text = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        text += rest[: int(size, 16)]
        body = rest[int(size, 16) + 2 :]
    events = [event.removeprefix(b"data: ") for event in text.split(b"\n\n") if event]
    if len(events) < 2 or events[-1] != b"[DONE]":
        raise PeerError(f"an answer ended with {events[-2:]}")
    if json.loads(events[-2]).get("usage", {}).get("completion_tokens") != new_tokens:
        raise PeerError(f"an answer has other than {new_tokens} tokens: {events[-2]!r}")
    return len(events)


@contextlib.contextmanager
def both(model: str, args: argparse.Namespace) -> Iterator[tuple[EngineSide, HttpSide]]:
    """Start both sides, and end them."""
    with contextlib.ExitStack() as stack:
        engine = EngineSide(model, args)
        stack.callback(engine.close)
        http = HttpSide(model, args)
        stack.callback(http.close)
        yield engine, http


def measure(model: str, args: argparse.Namespace) -> list[Figures]:
    """Return the figures of a model: one round that does not count, then args.rounds."""
    found = [Figures(rows, args.new_tokens[rows > 1]) for rows in args.rows]
    with both(model, args) as (engine, http):
        for number in range(args.rounds + 1):
            for one in found:
                load = Load(one.rows, args.prompt_tokens, one.new_tokens, args.threads, 1)
                prompts = load.prompts(engine.vocab_size, 100 * one.rows + number)
                counts = number > 0
                print(f"{Path(model).stem} round {number}, {one.rows}", file=sys.stderr)
                # Whoever is second finds caches and clocks as the first left them.
                sides = (_engine_round, _http_round)
                for run in sides if number % 2 else sides[::-1]:
                    run(engine if run is _engine_round else http, one, prompts, counts)
    return found


def _engine_round(side: EngineSide, one: Figures, prompts: list[list[int]], counts: bool) -> None:
    seconds = side.seconds(prompts, one.new_tokens)
    if counts:
        one.engine.append(one.rows * one.new_tokens / seconds)


def _http_round(side: HttpSide, one: Figures, prompts: list[list[int]], counts: bool) -> None:
    loop_ns, client_ns = side.loop_ns(), time.process_time_ns()
    seconds, events = side.seconds(prompts, one.new_tokens)
    tokens = one.rows * one.new_tokens
    if counts:
        one.http.append(tokens / seconds)
        one.num_events.append(events)
        one.loop_us.append((side.loop_ns() - loop_ns) / 1e3 / tokens)
        one.client_us.append((time.process_time_ns() - client_ns) / 1e3 / tokens)


def print_table(model: str, found: list[Figures]) -> None:
    """Print a line per number of streams."""
    for one in (figures.summary() for figures in found):
        low, high = one["range_of_ratios"]
        wanted = f", wanted {one['wanted']:.0%}" if one["wanted"] else ""
        print(
            f"{model:<20} {one['rows']:>2} x {one['new_tokens']} tokens: engine "
            f"{one['engine_tokens_per_s']:7.1f} tok/s, HTTP {one['http_tokens_per_s']:7.1f}: "
            f"{one['ratio']:.1%}{wanted}; rounds {one['median_of_ratios']:.1%} "
            f"({low:.1%}..{high:.1%}); event loop {one['event_loop_us_per_token']:.1f} us and "
            f"client {one['client_us_per_token']:.1f} us per token, "
            f"{one['events_per_answer']:.0f} events per answer"
        )


def numbers(text: str) -> list[int]:
    """Return `1,8` as [1, 8]."""
    return [int(part) for part in text.split(",") if part]


def parsed() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", help="GGUF files")
    parser.add_argument("--rows", type=numbers, default=[1, 8], help="streams at once (1,8)")
    parser.add_argument("--rounds", type=int, default=7, help="alternations that count (7)")
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument(
        "--new-tokens", type=numbers, default=[256, 128], help="of one stream, of several (256,128)"
    )
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def main() -> int:
    """Compare, and print tables or JSON."""
    args = parsed()
    are_files = all(Path(model).is_file() for model in args.models)
    if args.rounds < 1 or len(args.new_tokens) != 2 or not are_files:
        print("Give GGUF files that exist, at least 1 round, two numbers of new tokens.")
        return 2
    report = {}
    try:
        for model in args.models:
            found = measure(model, args)
            report[Path(model).stem] = [{**vars(one), **one.summary()} for one in found]
            if not args.json:
                print_table(Path(model).stem, found)
    except (PeerError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
