"""A file of requests, completed into another file, resumed where it stopped."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tonnage.batch.files import ResultFile, read_lines
from tonnage.batch.lines import (
    BatchRequest,
    completion_line,
    error_line,
    line_id,
    parse_line,
    settings_id,
)
from tonnage.core.errors import BatchError, TonnageError
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.generation import Generation

if TYPE_CHECKING:
    from tonnage.engine.engine import Engine

# So many requests at a time that few sequences run idle at the end of each chunk.
_CHUNK_PER_SEQUENCE = 32
_CHUNK_BYTES = 16 << 20


class BatchFiles:
    """The two files of a batch, checked and locked before a model is loaded."""

    def __init__(self, requests: Path, results: Path) -> None:
        """Count the lines of `requests`, and open or make `results`.

        Raises BatchError for one file in both places, and as of ResultFile; OSError.
        """
        self.requests = requests
        self.num_lines = sum(1 for _ in read_lines(requests))
        if results.exists() and results.samefile(requests):
            raise BatchError(f"Requests and results are the same file ({requests}); give two.")
        self.results = ResultFile(results)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exc: Any) -> None:
        """Sync what was written, and close. Raises OSError."""
        self.results.__exit__(*exc)


@dataclass
class Batch:
    """The work on two files: results in the order of the requests, as far as they are known.

    defaults: for what a line leaves out. raw: plain prompts get no chat template. num_kept: results
    that were there already; num_done: those written since, num_failed of them errors; num_tokens:
    sampled for them.
    """

    files: BatchFiles
    engine: "Engine"
    defaults: SamplingOptions
    raw: bool = field(kw_only=True)
    num_kept: int = field(init=False)
    num_done: int = field(default=0, init=False)
    num_failed: int = field(default=0, init=False)
    num_tokens: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Find what is done. Raises BatchError when the results belong to something else."""
        plan = self.engine.plan
        formats = [plan.kv.format, *(f"{m.name} {m.format}" for m in plan.matrices)]
        settings = [self.engine.source.name, formats, asdict(self.defaults), self.raw]
        self._settings = settings_id(json.dumps(settings, sort_keys=True, default=sorted))
        names = (self.name(line) for line in read_lines(self.files.requests))
        self.num_kept = self.files.results.keep(names)

    def name(self, line: bytes) -> str:
        """Return the id of a line's result."""
        return line_id(self._settings, line)

    @property
    def num_refused(self) -> int:
        """How many of all results are errors, those that were there already among them."""
        return self.files.results.num_refused + self.num_failed

    def run(self, on_result: Callable[[], None]) -> None:
        """Complete what is left. on_result is called after each result that was written.

        Raises OSError when results cannot be written. Whatever interrupts it leaves whole results
        behind, and counts that are true.
        """
        lines = islice(read_lines(self.files.requests), self.num_kept, None)
        while chunk := _take(lines, _CHUNK_PER_SEQUENCE * self.engine.plan.concurrency):
            _Chunk(self, chunk, on_result).complete()

    def refuse(self, line: bytes, error: TonnageError) -> dict[str, Any]:
        """Return the result of a line that cannot be completed."""
        self.num_failed += 1
        return error_line(self.name(line), line, error)

    def result(self, line: bytes, request: BatchRequest, made: Generation) -> dict[str, Any]:
        """Return the result of a completion."""
        if made.error is not None:
            return self.refuse(line, made.error)
        self.num_tokens += len(made.tokens)
        tokenizer = self.engine.tokenizer
        return completion_line(
            self.name(line),
            request,
            made,
            self.engine.source.name,
            lambda token: tokenizer.token_bytes(token).decode("utf-8", "replace"),
        )


class _Chunk:
    """Some lines in one go: results wait here until all before them are written."""

    def __init__(self, batch: Batch, lines: list[bytes], on_result: Callable[[], None]) -> None:
        self._batch = batch
        self._lines = lines
        self._on_result = on_result
        self._ready: dict[int, dict[str, Any]] = {}
        self._next = 0

    def complete(self) -> None:
        """Complete every line; each result is written as soon as all before it are."""
        batch = self._batch
        requests: list[tuple[int, BatchRequest]] = []
        prompts: list[Sequence[int]] = []
        for index, line in enumerate(self._lines):
            try:
                request = parse_line(line, batch.defaults, raw=batch.raw)
                prompts.append(batch.engine.encode_prompt(request.prompt, raw=request.raw))
                requests.append((index, request))
            except TonnageError as error:
                self._put(index, batch.refuse(line, error))

        def on_done(place: int, made: Generation) -> None:
            index, request = requests[place]
            self._put(index, batch.result(self._lines[index], request, made))

        options = [request.options for _, request in requests]
        batch.engine.generate_batch(prompts, options, on_done=on_done)

    def _put(self, index: int, result: dict[str, Any]) -> None:
        self._ready[index] = result
        while self._next in self._ready:
            self._batch.files.results.append(self._ready.pop(self._next))
            self._next += 1
            self._batch.num_done += 1
            self._on_result()


def _take(lines: Iterator[bytes], size: int) -> list[bytes]:
    """Return the next lines: `size` of them, or fewer when they are long."""
    taken: list[bytes] = []
    num_bytes = 0
    for line in islice(lines, size):
        taken.append(line)
        num_bytes += len(line)
        if num_bytes >= _CHUNK_BYTES:
            break
    return taken
