"""`tonnage batch`: answers to a file of requests, many at once, resumed where it stopped."""

import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from tonnage.batch.files import ResultFile, read_lines
from tonnage.batch.lines import (
    BatchRequest,
    answer_line,
    error_line,
    line_id,
    parse_line,
    settings_id,
)
from tonnage.cli.commands.run import sampling_options
from tonnage.cli.opening import open_engine
from tonnage.cli.render.terminal import CountProgress
from tonnage.core.errors import BatchError, TonnageError
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.generation import Generation

if TYPE_CHECKING:
    from tonnage.engine.engine import Engine

# Enough requests at a time that the end of one stretch, where few are left, does not matter.
_STRETCH_PER_SEQUENCE = 32
_STRETCH_BYTES = 16 << 20


def batch(args: Namespace) -> int:
    """Answer every line of args.input into args.output; return the exit code."""
    defaults = sampling_options(args)
    total = sum(1 for _ in read_lines(args.input))
    if args.output.exists() and args.output.samefile(args.input):
        raise BatchError("INPUT and OUTPUT are the same file; give two.")
    with ResultFile(args.output) as file, open_engine(args, args.concurrency) as engine:
        work = Batch(engine, file, defaults, raw=args.raw)
        done = file.keep(work.name(line) for line in read_lines(args.input))
        progress = CountProgress(sys.stderr, "batch", total, done)
        begin = time.perf_counter()
        try:
            work.run(islice(read_lines(args.input), done, None), progress)
        except KeyboardInterrupt:
            progress.close()
            _say(f"stopped at {done + work.num_done} of {total}; run it again to go on from there")
            raise
        finally:
            progress.close()
    _say(_summary(work, done, time.perf_counter() - begin))
    return 0


@dataclass
class Batch:
    """The work on one file: answers in the order of its lines, as far as they are known."""

    engine: "Engine"
    file: ResultFile
    defaults: SamplingOptions
    raw: bool = field(kw_only=True)
    num_done: int = 0
    num_failed: int = 0
    num_tokens: int = 0
    _settings: str = ""

    def __post_init__(self) -> None:
        """Note what results depend on beside their lines."""
        plan = self.engine.plan
        formats = [plan.kv.format, *(f"{m.name} {m.format}" for m in plan.matrices)]
        settings = [self.engine.source.name, formats, asdict(self.defaults), self.raw]
        self._settings = settings_id(json.dumps(settings, sort_keys=True))

    def name(self, line: bytes) -> str:
        """Return the id of a line's result."""
        return line_id(self._settings, line)

    def run(self, lines: Iterator[bytes], progress: CountProgress) -> None:
        """Answer all lines. Raises OSError when results cannot be written."""
        size = _STRETCH_PER_SEQUENCE * self.engine.plan.concurrency
        while stretch := _take(lines, size):
            Results(self, progress, stretch).answer()

    def refuse(self, line: bytes, error: TonnageError) -> dict[str, Any]:
        """Return the result of a line that cannot be answered."""
        self.num_failed += 1
        return error_line(self.name(line), line, error)

    def render(self, line: bytes, request: BatchRequest, answer: Generation) -> dict[str, Any]:
        """Return the result of an answer."""
        if answer.error is not None:
            return self.refuse(line, answer.error)
        self.num_tokens += len(answer.tokens)
        tokenizer = self.engine.tokenizer
        return answer_line(
            self.name(line),
            request,
            answer,
            self.engine.source.name,
            lambda token: tokenizer.token_bytes(token).decode("utf-8", "replace"),
        )


class Results:
    """One stretch of lines: results wait here until all before them are written."""

    def __init__(self, work: Batch, progress: CountProgress, lines: list[bytes]) -> None:
        """Take the lines of the stretch."""
        self._work = work
        self._progress = progress
        self._lines = lines
        self._ready: dict[int, dict[str, Any]] = {}
        self._next = 0

    def answer(self) -> None:
        """Answer every line; each result is written as soon as its turn has come."""
        asked: list[tuple[int, BatchRequest]] = []
        prompts: list[Sequence[int]] = []
        for index, line in enumerate(self._lines):
            try:
                request = parse_line(line, self._work.defaults, raw=self._work.raw)
                prompts.append(self._work.engine.encode_prompt(request.prompt, raw=request.raw))
                asked.append((index, request))
            except TonnageError as error:
                self._put(index, self._work.refuse(line, error))

        def on_done(place: int, answer: Generation) -> None:
            index, request = asked[place]
            self._put(index, self._work.render(self._lines[index], request, answer))

        options = [request.options for _, request in asked]
        self._work.engine.generate_batch(prompts, options, on_done=on_done)

    def _put(self, index: int, result: dict[str, Any]) -> None:
        self._ready[index] = result
        while self._next in self._ready:
            self._work.file.append(self._ready.pop(self._next))
            self._next += 1
            self._work.num_done += 1
            self._progress.step()


def _take(lines: Iterator[bytes], size: int) -> list[bytes]:
    """Return the next lines: `size` of them, or fewer when they are long."""
    taken: list[bytes] = []
    num_bytes = 0
    for line in islice(lines, size):
        taken.append(line)
        num_bytes += len(line)
        if num_bytes >= _STRETCH_BYTES:
            break
    return taken


def _summary(work: Batch, kept: int, seconds: float) -> str:
    words = [f"{work.num_done - work.num_failed} answered", f"{work.num_failed} refused"]
    if kept:
        words.append(f"{kept} were there already")
    rate = work.num_tokens / seconds if seconds else 0.0
    return f"{', '.join(words)}; {work.num_tokens:,} tokens in {seconds:.1f} s, {rate:.0f} a second"


def _say(text: str) -> None:
    print(f"batch: {text}", file=sys.stderr, flush=True)
