"""What a user asked for, checked, with usual values for what was left open."""

from tonnage.core.errors import RequestError
from tonnage.core.kv_format import PAGE_FORMATS
from tonnage.core.machine import Machine
from tonnage.core.mix import Formats, check_formats
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import KV_FORMATS, KvFormat
from tonnage.core.quality import DEFAULT_QUALITY, QUALITY_BOUNDS
from tonnage.core.record import record
from tonnage.core.workload import MAX_STEP_ROWS, Workload
from tonnage.planner.quality.precision import precision_formats

DEFAULT_CONTEXT_TOKENS = 4096
MAX_THREADS = 256
MAX_CONCURRENCY = 1024
MIN_STEP_ROWS = 16  # below, a prompt is read as slowly as it would be written
USUAL_STEP_ROWS = (512, 256, 128)
FEW_STEP_ROWS = (64, 32, MIN_STEP_ROWS)


@record
class Constraints:
    """What the user asked for; None leaves the choice to the planner.

    precision, formats: of weights; with either of them none is chosen. max_kld: the most mean
    divergence from the file, in nats, that a choice may cost. server_bytes: what an HTTP server in
    this process may come to. with_structured_output: completions may have to fit a schema or a
    grammar. with_store: prefixes are kept on disk. share_pages: sequences share what pages there
    are, at least a full context;
    else each has one. use_audits: what was measured of the model counts in the choice; else
    estimates.
    """

    context: int | None = None
    threads: int | None = None
    precision: str | None = None
    concurrency: int = 1
    max_logit_rows: int = 1
    max_batch_tokens: int | None = None
    formats: Formats = ()
    kv_format: str | None = None
    max_kld: float = QUALITY_BOUNDS[DEFAULT_QUALITY]
    server_bytes: int = 0
    with_structured_output: bool = False
    share_pages: bool = False
    with_store: bool = False
    use_audits: bool = False

    @property
    def weights_open(self) -> bool:
        """Whether the weights' precision is the planner's to choose."""
        return self.precision is None and not self.formats


def choose_workload(
    spec: ModelSpec, machine: Machine, constraints: Constraints, resident_bytes: int = 0
) -> Workload:
    """Return the workload of a process that holds `resident_bytes` already.

    Raises RequestError for a value outside what model and kernels take.
    """
    check_formats(spec, constraints.formats)
    stated = {**dict(precision_formats(spec, constraints.precision)), **dict(constraints.formats)}
    if not 1 <= constraints.concurrency <= MAX_CONCURRENCY:
        raise RequestError(
            f"{constraints.concurrency} sequences were asked for; it takes 1 to {MAX_CONCURRENCY}."
        )
    return Workload(
        context_tokens=_context(spec, constraints.context),
        threads=_threads(machine, constraints.threads),
        concurrency=constraints.concurrency,
        max_rows=_rows(constraints.max_batch_tokens, constraints.max_logit_rows),
        max_logit_rows=constraints.max_logit_rows,
        formats=tuple(sorted(stated.items())),
        kv_format=_kv_format(constraints.kv_format),
        resident_bytes=resident_bytes,
        server_bytes=constraints.server_bytes,
        with_structured_output=constraints.with_structured_output,
        with_store=constraints.with_store,
        shared_pages=0 if constraints.share_pages else None,
    )


def _context(spec: ModelSpec, wanted: int | None) -> int:
    if wanted is None:
        return min(DEFAULT_CONTEXT_TOKENS, spec.default_context)
    if wanted < 2 or wanted > spec.context_length:
        raise RequestError(
            f"A context of {wanted:,} tokens was asked for; this model takes 2 to "
            f"{spec.context_length:,}."
        )
    return wanted


def _kv_format(wanted: str | None) -> KvFormat:
    if wanted is None:
        return KV_FORMATS[0]
    known = next((known for known in KV_FORMATS if known == wanted), None)
    if known is None:
        formats = (f"{one.name} ({one.bits} bits per element)" for one in PAGE_FORMATS)
        raise RequestError(f"The KV format {wanted!r} is unknown; use {' or '.join(formats)}.")
    return known


def _threads(machine: Machine, wanted: int | None) -> int:
    if wanted is None:
        return machine.default_threads
    if not 1 <= wanted <= MAX_THREADS:
        raise RequestError(f"{wanted} threads were asked for; it takes 1 to {MAX_THREADS}.")
    return wanted


def _rows(wanted: int | None, max_logit_rows: int) -> int:
    if wanted is None:
        return MAX_STEP_ROWS
    if not max_logit_rows <= wanted <= MAX_STEP_ROWS:
        raise RequestError(
            f"{wanted} batch tokens were asked for; it takes {max_logit_rows} to {MAX_STEP_ROWS}."
        )
    return wanted
