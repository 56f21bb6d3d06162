"""Measuring a calibration: a text goes through the model, and squares of what is read add up."""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np

from tonnage.core.errors import PackError
from tonnage.core.record import record
from tonnage.engine.engine import Engine, Span
from tonnage.engine.headers import read_model
from tonnage.models.tensor_names import gguf_name
from tonnage.packing.calibration import Moments, write_calibration
from tonnage.packing.source_hash import sha256_of
from tonnage.quality.audit import AuditText
from tonnage.quality.chunks import CONTEXT_TOKENS, LOGIT_ROWS, cut
from tonnage.store.source import ModelSource


@record
class Calibrated:
    """What was measured, and of how much."""

    moments: dict[str, Moments]
    num_tokens: int
    model_sha256: str
    text_sha256: str

    def write(self, path: Path) -> None:
        """Write it, whole or not at all. Raises OSError."""
        write_calibration(
            path, self.moments, model_sha256=self.model_sha256, text_sha256=self.text_sha256,
            num_tokens=self.num_tokens,
        )  # fmt: skip


def calibrate(
    source: ModelSource,
    text: AuditText,
    max_chunks: int,
    threads: int | None = None,
    on_load: Callable[[int, int], None] | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> Calibrated:
    """Return the second moments over the first chunks of a text, of 512 tokens each.

    The same for any number of threads and any instruction set. on_chunk: receives how many of how
    many are done. Raises PackError for a text of less than a chunk, and what Engine.open raises.
    """
    if max_chunks < 1:
        raise PackError(f"{max_chunks} chunks were asked for; a calibration needs at least 1.")
    _, tokenizer = read_model(source)
    chunks = cut(tokenizer, text.text)[:max_chunks]
    if not chunks:
        have = len(tokenizer.encode(text.text, add_special=True, parse_special=False))
        raise PackError(
            f"{text.name} has {have:,} tokens, and a calibration needs at least {CONTEXT_TOKENS}; "
            "give a longer --text."
        )
    sums = _Sums()
    with Engine.open(
        os.path.abspath(source.path), threads=threads, context=CONTEXT_TOKENS, quality="lossless",
        kv_format="f16", max_logit_rows=LOGIT_ROWS, offline=True, on_load=on_load,
    ) as engine:  # fmt: skip
        for number, chunk in enumerate(chunks, 1):
            _run(engine, chunk, sums)
            if on_chunk is not None:
                on_chunk(number, len(chunks))
    count = CONTEXT_TOKENS * len(chunks)
    return Calibrated(
        moments={gguf_name(name): total / count for name, total in sums.of.items()},
        num_tokens=count,
        model_sha256=sha256_of(source.path),
        text_sha256=sha256(text.text.encode("utf-8", "surrogatepass")).hexdigest(),
    )


class _Sums:
    """Sums of squares per column, by the canonical names of matrices."""

    def __init__(self) -> None:
        self.of: dict[str, Moments] = {}

    def add(self, names: tuple[str, ...], rows: bytes) -> None:
        values = np.frombuffer(rows, np.float32)
        for name in names:
            # Columns of the first row of the first step tell how many there are.
            total = self.of.get(name)
            cols = len(values) // self.rows if total is None else len(total)
            squares = np.square(values.reshape(-1, cols), dtype=np.float64).sum(axis=0)
            self.of[name] = squares if total is None else total + squares

    rows = 1


def _run(engine: Engine, tokens: list[int], sums: _Sums) -> None:
    plan = engine.plan
    pages = [list(range(group.num_pages)) for group in plan.kv.groups]
    size = min(plan.max_rows, plan.max_logit_rows)
    for begin in range(0, len(tokens), size):
        part = tokens[begin : begin + size]
        sums.rows = len(part)
        engine.runtime.watch(part, [Span(pages, len(part), begin)], sums.add)
