"""An audit: a model's perplexity on a text, and how far it lies from a reference.

Both engines run side by side, chunk by chunk; the logits of at most 64 rows of each exist at once.
"""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from math import fsum
from pathlib import Path

from tonnage.core.errors import AuditError
from tonnage.core.mix import Formats, check_formats
from tonnage.core.model_spec import ModelSpec
from tonnage.core.quality import AuditResult, Comparison
from tonnage.core.record import record
from tonnage.engine.engine import Engine
from tonnage.engine.headers import read_model
from tonnage.planner.quality.precision import mix_id, precision_formats
from tonnage.quality.chunks import (
    CONTEXT_TOKENS,
    LOGIT_ROWS,
    SCORED_TOKENS,
    ChunkScores,
    cut,
    score,
    score_against,
)
from tonnage.quality.interval import exponential, mean_interval, quantile
from tonnage.quality.vocabulary import require_same
from tonnage.store.audits import AuditKey
from tonnage.store.source import ModelSource
from tonnage.text.tokenizer import Tokenizer

_TEXT_LIMIT_BYTES = 64 << 20
_Read = tuple[ModelSpec, Tokenizer]


@record
class Subject:
    """A model on this machine, and how to load it.

    precision: of its float weights, None: as stored. kv_format: of its pages, f16 or int8. formats:
    what single matrices become, as a plan chose them; weights: words for that.
    """

    source: ModelSource
    precision: str | None = None
    kv_format: str = "f16"
    formats: Formats = ()
    weights: str = ""

    def mix(self, spec: ModelSpec) -> str:
        """Return which mix of formats is loaded of a model of `spec`. Raises RequestError."""
        check_formats(spec, self.formats)
        stated = {**dict(precision_formats(spec, self.precision)), **dict(self.formats)}
        return mix_id(spec, tuple(stated.items()))


@record
class AuditText:
    """What is predicted, and what to call it."""

    name: str
    text: str

    @staticmethod
    def read(path: Path) -> "AuditText":
        """Return the text of a UTF-8 file of at most 64 MiB. Raises AuditError, OSError."""
        with path.open("rb") as stream:
            data = stream.read(_TEXT_LIMIT_BYTES + 1)
        if len(data) > _TEXT_LIMIT_BYTES:
            raise AuditError(
                f"The text {path} is larger than 64 MiB; an audit of 20 chunks reads some 50 KiB "
                "of it, so cut it shorter."
            )
        try:
            return AuditText(str(path), data.decode())
        except UnicodeDecodeError as error:
            raise AuditError(
                f"The text {path} is not UTF-8 (byte {error.start:,}); convert it first, or give "
                "another --text."
            ) from None

    @staticmethod
    def of_python() -> "AuditText":
        """Return the language reference that comes with Python: half a megabyte of plain English.

        It differs between Python's versions. Raises AuditError where it was left out.
        """
        import sys

        try:
            from pydoc_data.topics import topics
        except ImportError:
            raise AuditError(
                "This Python comes without its language reference, which is measured on when no "
                "text is given; give a --text FILE."
            ) from None
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        return AuditText(
            f"the reference of Python {version}", "\n\n".join(topics[key] for key in sorted(topics))
        )


@record
class Progress:
    """Observers of loads (bytes placed, of all) and of chunks (done, of all, perplexity)."""

    on_load: Callable[[int, int], None] | None = None
    on_chunk: Callable[[int, int, float], None] | None = None


@record
class Audit:
    """An audit that is ready to run: headers and text are read, no weights yet.

    key: under what its result is cached.
    """

    model: Subject
    reference: Subject | None
    text: AuditText
    chunks: list[list[int]]
    key: AuditKey

    def run(
        self,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> AuditResult:
        """Load the model and its reference, both in this process, and measure.

        Raises what Engine.open raises.
        """
        progress = progress or Progress()
        begin = time.perf_counter()
        scores: list[ChunkScores] = []
        with ExitStack() as stack:
            reference = None
            if self.reference is not None:
                reference = stack.enter_context(_open(self.reference, threads, progress))
            engine = stack.enter_context(_open(self.model, threads, progress))
            for number, chunk in enumerate(self.chunks, 1):
                scores.append(
                    score_against(engine, reference, chunk) if reference else score(engine, chunk)
                )
                if progress.on_chunk:
                    perplexity = exponential(mean_interval([_mean(s.nlls) for s in scores]))
                    progress.on_chunk(number, len(self.chunks), perplexity.value)
            isa = engine.runtime.kernels
        return self._result(scores, isa, time.perf_counter() - begin)

    def named(self, result: AuditResult) -> AuditResult:
        """Return a result of the same key under the names that are used here."""
        comparison = result.comparison
        if comparison is not None and self.reference is not None:
            comparison = replace(comparison, reference=self.reference.source.name)
        return replace(
            result,
            model=self.model.source.name,
            text=self.text.name,
            comparison=comparison,
        )

    def _result(self, scores: list[ChunkScores], isa: str, seconds: float) -> AuditResult:
        return AuditResult(
            model=self.model.source.name,
            precision=self.model.precision,
            text=self.text.name,
            text_sha256=self.key.text_sha256,
            num_chunks=len(scores),
            num_scored=len(scores) * SCORED_TOKENS,
            perplexity=exponential(mean_interval([_mean(s.nlls) for s in scores])),
            comparison=None if self.reference is None else _compare(self.reference, scores),
            isa=isa,
            seconds=seconds,
            kv_format=self.model.kv_format,
            mix=self.key.mix,
            weights=self.model.weights,
        )


def prepare(model: Subject, reference: Subject | None, text: AuditText, max_chunks: int) -> Audit:
    """Read the headers of both models and cut the text into at most `max_chunks` chunks.

    Raises AuditError when the text has less than one chunk, when the vocabularies differ and when
    numpy is missing; and what reading headers raises.
    """
    _require_numpy()
    if max_chunks < 1:
        raise AuditError(f"{max_chunks} chunks were asked for; an audit needs at least 1.")
    read = read_model(model.source)
    other = None if reference is None else read_model(reference.source)
    names = model.source.name, "" if reference is None else reference.source.name
    chunks = _cut(names, read, other, text)[:max_chunks]
    digest = sha256(text.text.encode("utf-8", "surrogatepass")).hexdigest()
    key = AuditKey(
        model=model.source.path,
        mix=model.mix(read[0]),
        reference=None if reference is None else reference.source.path,
        reference_mix="" if reference is None or other is None else reference.mix(other[0]),
        text_sha256=digest,
        num_chunks=len(chunks),
        kv_format=model.kv_format,
        reference_kv_format=None if reference is None else reference.kv_format,
    )
    return Audit(model, reference, text, chunks, key)


def _cut(
    names: tuple[str, str], model: _Read, reference: _Read | None, text: AuditText
) -> list[list[int]]:
    """Return at least one chunk, the same for both models. Raises AuditError."""
    spec, tokenizer = model
    chunks = cut(tokenizer, text.text)
    if not chunks:
        have = len(tokenizer.encode(text.text, add_special=True, parse_special=False))
        raise AuditError(
            f"{text.name} has {have:,} tokens and one chunk takes {CONTEXT_TOKENS}; give a longer "
            "--text."
        )
    if reference is not None:
        name, other_name = names
        other_spec, other_tokenizer = reference
        require_same((name, spec, tokenizer), (other_name, other_spec, other_tokenizer))
        if cut(other_tokenizer, text.text) != chunks:
            raise AuditError(
                f"{name} and {other_name} cut {text.name} into different tokens, so their "
                "predictions do not compare; give a reference of the same tokenizer."
            )
    return chunks


def _require_numpy() -> None:
    try:
        import tonnage.quality.rows  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        raise AuditError(
            "An audit needs numpy, which a run does not: `pip install numpy`, or Tonnage with its "
            "extra `audit`."
        ) from None


def _open(subject: Subject, threads: int | None, progress: Progress) -> Engine:
    return Engine.open(
        os.path.abspath(subject.source.path),
        threads=threads,
        context=CONTEXT_TOKENS,
        precision=subject.precision,
        formats=dict(subject.formats),
        quality="lossless",
        kv_format=subject.kv_format,
        max_logit_rows=LOGIT_ROWS,
        offline=True,
        on_load=progress.on_load,
    )


def _mean(values: list[float]) -> float:
    return fsum(values) / len(values)


def _compare(reference: Subject, scores: list[ChunkScores]) -> Comparison:
    divergences = [value for chunk in scores for value in chunk.divergences]
    agreements = [value for chunk in scores for value in chunk.agreements]
    shared = [value for chunk in scores for value in chunk.shared]
    nlls = [_mean(chunk.reference_nlls) for chunk in scores]
    return Comparison(
        reference=reference.source.name,
        reference_precision=reference.precision,
        perplexity=exponential(mean_interval(nlls)),
        mean_kld=mean_interval([_mean(chunk.divergences) for chunk in scores]),
        kld_median=quantile(divergences, 0.5),
        kld_p99=quantile(divergences, 0.99),
        kld_p999=quantile(divergences, 0.999),
        top1_agreement=sum(agreements) / len(agreements),
        top5_agreement=_mean(shared),
        reference_kv_format=reference.kv_format,
    )
