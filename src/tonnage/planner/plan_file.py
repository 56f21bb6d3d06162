"""A plan as a file: what was chosen, for which checkpoint, machine and version.

Reading trusts nothing. The text is bounded and checked type by type; the choice (`Workload`) must
be one that the planner could have made; and the plan must be, value for value, the one that this
version lays out for that choice and the headers of the checkpoint at hand. So an offset, a size or
a name that was changed in the file is found by comparison, before anything is allocated.

What differs, and what follows:

- another checkpoint, a later format, another layout by another version: refused;
- less memory than the plan takes: refused, as any plan is;
- another version with the same layout, another machine: a sentence, and the plan runs. Results do
  not depend on the machine (docs/kernels.md); its speed does.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass, replace

from tonnage.core.errors import PlanFileError, TonnageError
from tonnage.core.from_json import WrongJsonError, decode
from tonnage.core.layout import Layout
from tonnage.core.machine import Machine
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import Plan, Source
from tonnage.core.quality import PlanQuality
from tonnage.core.record import record
from tonnage.core.units import format_bytes
from tonnage.core.version import VERSION
from tonnage.core.workload import Workload
from tonnage.planner.search.candidate import Evaluator, Speed
from tonnage.planner.search.choose import PlanChoice
from tonnage.planner.search.constraints import Constraints, choose_workload

FORMAT = 2
MAX_FILE_BYTES = 4 << 20  # a model of 28 layers takes 165 KB
_MAX_BYTES = 1 << 50  # of anything that the process holds
_ONLY_FILE = "checkpoint"


@record
class PlannedMachine:
    """The machine that a plan was made for, as far as its speed and its bytes depend on it."""

    cpu_model: str
    isa: str
    num_cores: int
    memory_total_bytes: int


@record
class PlannedSpeed:
    """The forecast that a plan was chosen by; tokens per second of one sequence."""

    decode_tokens_per_s: float
    prefill_tokens_per_s: float | None
    time_to_first_token_ns: int | None
    bottleneck: str


@record
class PlanFile:
    """What a plan file holds.

    format: of the file. program: the version that wrote it. model: what the user called it.
    checkpoint: the identity of its files (tonnage.store.identity.checkpoint_identity).
    budget_bytes: what was stated for the whole process, None for what it could get. quality,
    forecast: for readers; loading computes its own. plan: its sources name files without folders.
    """

    format: int
    program: str
    model: str
    checkpoint: str
    machine: PlannedMachine
    budget_bytes: int | None
    workload: Workload
    quality: PlanQuality
    forecast: PlannedSpeed | None
    plan: Plan

    def to_json(self) -> str:
        """Return the text of the file, the same for the same plan."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        plain = {name: asdict(v) if is_dataclass(v) else v for name, v in values.items()}  # type: ignore[arg-type]
        return json.dumps({**plain, "plan": json.loads(self.plan.to_json())}, indent=1) + "\n"


def planned_machine(machine: Machine) -> PlannedMachine:
    """Return what a plan file keeps of `machine`."""
    return PlannedMachine(
        machine.cpu_model, machine.isa, machine.num_cores, machine.memory_total_bytes
    )


def planned_speed(forecast: Speed | None) -> PlannedSpeed | None:
    """Return what a plan file keeps of a forecast."""
    if forecast is None:
        return None
    return PlannedSpeed(
        forecast.decode_tokens_per_s,
        forecast.prefill_tokens_per_s,
        forecast.time_to_first_token_ns,
        forecast.bottleneck,
    )


def portable(plan: Plan) -> Plan:
    """Return `plan` with sources by the names of their files, wherever the checkpoint lies.

    A checkpoint of one file may be renamed; shards are distinguished by their names.
    """
    sources = [matrix.source for matrix in plan.matrices]
    sources += [vector.source for vector in plan.vectors]
    several = len({source.file for source in sources}) > 1

    def moved(source: Source) -> Source:
        return replace(source, file=source.file.rpartition("/")[2] if several else _ONLY_FILE)

    return replace(
        plan,
        matrices=tuple(replace(one, source=moved(one.source)) for one in plan.matrices),
        vectors=tuple(replace(one, source=moved(one.source)) for one in plan.vectors),
    )


def parse_plan_file(data: bytes, name: str) -> PlanFile:
    """Return what `data` holds, checked type by type; name: of the file, for messages.

    Raises PlanFileError for anything else than a plan file of this format.
    """
    if len(data) > MAX_FILE_BYTES:
        raise PlanFileError(f"{name} is larger than {format_bytes(MAX_FILE_BYTES)}: no plan file.")
    try:
        raw = json.loads(data.decode("utf-8"), parse_constant=_no_number)
        _require_format(raw, name)
        return decode(PlanFile, raw, "file")
    except (ValueError, RecursionError) as error:
        reason = str(error)[:200]
        raise PlanFileError(
            f"{name} is no plan file ({reason}); write one with `tonnage plan MODEL -o FILE`."
        ) from None


def _no_number(word: str) -> float:
    raise WrongJsonError(f"{word} is no number")


def _require_format(raw: object, name: str) -> None:
    found = raw.get("format") if isinstance(raw, Mapping) else None
    if type(found) is int and found > FORMAT:
        raise PlanFileError(
            f"{name} has format {str(found)[:20]}, written by a later version; this one reads "
            f"format {FORMAT}. Update tonnage, or plan again."
        )
    if type(found) is int and 0 < found < FORMAT:
        raise PlanFileError(
            f"{name} has format {found}, written by an earlier version; this one reads format "
            f"{FORMAT}. Plan again with `tonnage plan MODEL -o FILE`."
        )
    if type(found) is not int or found != FORMAT:
        raise WrongJsonError("it states no format")


def checked_choice(file: PlanFile, spec: ModelSpec, machine: Machine, layout: Layout) -> PlanChoice:
    """Return the choice in `file` for the checkpoint of `spec`, laid out anew by `layout`.

    Raises PlanFileError where its plan is not the one that this version makes of the choice.
    """
    try:
        constraints, workload = _checked_workload(file.workload, spec, machine)
        plan = layout.plan(spec, workload)
    except PlanFileError:
        raise
    except TonnageError as error:
        raise PlanFileError(f"The plan states what none has: {error}") from error
    different = first_difference(portable(plan), file.plan)
    if different is not None:
        raise PlanFileError(
            f"The plan does not follow from its choice: {different}. It was changed, or laid out "
            f"by another version ({file.program[:40]}; this is {VERSION}); plan it again with "
            "`tonnage plan MODEL -o FILE`."
        )
    return PlanChoice(
        constraints,
        workload,
        plan,
        None,
        Evaluator(spec, layout, lambda _: None).quality(workload),
        workload.context_tokens,
        workload.kv_format,
        accepted=True,
    )


def _checked_workload(
    stated: Workload, spec: ModelSpec, machine: Machine
) -> tuple[Constraints, Workload]:
    """Return the constraints that state all of a workload, and it, checked; or a TonnageError."""
    constraints = Constraints(
        context=stated.context_tokens,
        threads=stated.threads,
        concurrency=stated.concurrency,
        max_logit_rows=stated.max_logit_rows,
        max_batch_tokens=stated.max_rows,
        formats=stated.formats,
        kv_format=stated.kv_format,
        share_pages=stated.shared_pages is not None,
    )
    usual = choose_workload(spec, machine, constraints)
    shared = stated.shared_pages or 0
    held = (stated.resident_bytes, stated.beside_bytes, stated.server_bytes)
    most = stated.concurrency * stated.context_tokens
    right = stated.max_logit_rows >= 1 and 0 <= shared <= most
    if not right or not all(0 <= n <= _MAX_BYTES for n in held):
        raise PlanFileError(f"No workload has {_words(stated)}; plan it again.")
    process = {
        name: getattr(stated, name)
        for name in (
            "shared_pages",
            "resident_bytes",
            "beside_bytes",
            "server_bytes",
            "with_structured_output",
            "with_store",
        )
    }
    return constraints, replace(usual, **process)


def _words(workload: Workload) -> str:
    return (
        f"{workload.max_logit_rows} rows of logits, {workload.shared_pages} shared pages and "
        f"{workload.resident_bytes}, {workload.beside_bytes} and {workload.server_bytes} bytes held"
    )


def first_difference(wanted: object, found: object, where: str = "plan") -> str | None:
    """Return the first value in which two plans differ, with both; None where they are equal."""
    if wanted == found:
        return None
    for place, mine, other in _parts(wanted, found):
        if mine != other:
            return first_difference(mine, other, f"{where}{place}")
    return f"{where} is {_short(found)} instead of {_short(wanted)}"


def _parts(wanted: object, found: object) -> Iterator[tuple[str, object, object]]:
    if type(wanted) is not type(found):
        return
    if isinstance(wanted, tuple) and isinstance(found, tuple) and len(wanted) == len(found):
        for index, (mine, other) in enumerate(zip(wanted, found, strict=True)):
            yield f"[{index}]", mine, other
    elif is_dataclass(wanted):
        for one in fields(wanted):
            yield f".{one.name}", getattr(wanted, one.name), getattr(found, one.name)


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def differences(file: PlanFile, machine: Machine, program: str) -> Iterator[str]:
    """Yield a sentence for every difference that a plan may have and still run."""
    here = planned_machine(machine)
    if file.program != program:
        yield (
            f"The plan was written by version {file.program[:40]}; this is {program}, which lays "
            "the model out alike. Its kernels may round differently."
        )
    if file.machine != here:
        yield (
            f"The plan was made for {_machine_words(file.machine)}; this is "
            f"{_machine_words(here)}. Completions are the same, its forecast does not hold."
        )


def _machine_words(machine: PlannedMachine) -> str:
    return (
        f"{machine.cpu_model[:60]} ({machine.num_cores} cores, {machine.isa}, "
        f"{format_bytes(machine.memory_total_bytes)})"
    )
