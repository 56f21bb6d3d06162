"""Plan files on this machine: written, read, and made the plan of this process."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tonnage.core.errors import PlanFileError, RequestError
from tonnage.core.layout import Layout
from tonnage.core.machine import Machine
from tonnage.core.model_spec import ModelSpec
from tonnage.core.options import described
from tonnage.core.version import VERSION
from tonnage.engine.build import ServingOptions
from tonnage.engine.options import PlanOptions
from tonnage.machine.memory_use import Start
from tonnage.planner.plan_file import (
    FORMAT,
    MAX_FILE_BYTES,
    PlanFile,
    checked_choice,
    differences,
    parse_plan_file,
    planned_machine,
    planned_speed,
    portable,
)
from tonnage.planner.search.choose import PlanChoice
from tonnage.store.identity import checkpoint_identity
from tonnage.store.source import ModelSource


def plan_file_of(
    choice: PlanChoice,
    source: ModelSource,
    spec: ModelSpec,
    machine: Machine,
    budget_bytes: int | None,
) -> PlanFile:
    """Return the file of an accepted choice for `source`, whose headers are `spec`.

    budget_bytes: as stated, None for what the process can get. Raises OSError when the checkpoint
    is gone.
    """
    return PlanFile(
        format=FORMAT,
        program=VERSION,
        model=source.name,
        checkpoint=_checkpoint_identity(source, spec),
        machine=planned_machine(machine),
        budget_bytes=budget_bytes,
        workload=choice.workload,
        quality=choice.quality,
        forecast=planned_speed(choice.forecast),
        plan=portable(choice.plan),
    )


def read_plan_file(path: str | os.PathLike[str]) -> PlanFile:
    """Return what the file at `path` holds. Raises PlanFileError; reads at most MAX_FILE_BYTES."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as stream:
            return parse_plan_file(stream.read(MAX_FILE_BYTES + 1), name)
    except OSError as error:
        raise PlanFileError(f"{name} cannot be read: {error.strerror or error}.") from None


def stated_plan(plan: PlanFile | str | os.PathLike[str], options: Mapping[str, object]) -> PlanFile:
    """Return the plan to load. Raises RequestError when `options` state what it has chosen."""
    for one in described(PlanOptions):
        if options.get(one.name) not in (None, one.option.default):
            raise RequestError(
                f"A plan has chosen {one.name} already; leave out {one.flag or one.name}, or plan "
                "again with it."
            )
    return plan if isinstance(plan, PlanFile) else read_plan_file(plan)


def choice_in(
    file: PlanFile,
    source: ModelSource,
    spec: ModelSpec,
    machine: Machine,
    layout: Layout,
    start: Start,
    serving: ServingOptions,
) -> PlanChoice:
    """Return the choice of `file` in this process, for the model at `source` with headers `spec`.

    layout: of the backend that is to load it.
    The arena, its steps and all that results depend on are those of the file; what the process
    holds beside the model is counted anew. What differs from where it was planned, and does no
    harm, is logged. Raises PlanFileError for another checkpoint, and for a plan that is not the
    planner's.
    """
    if file.checkpoint != _checkpoint_identity(source, spec):
        raise PlanFileError(
            f"The plan was made for another checkpoint ({file.model[:100]}) than "
            f"{source.path} is now; plan again with `tonnage plan MODEL -o FILE`."
        )
    choice = checked_choice(file, spec, machine, layout)
    for sentence in differences(file, machine, VERSION):
        import logging

        logging.getLogger("tonnage.plan").warning("%s", sentence)
    workload = replace(
        choice.workload,
        resident_bytes=start.resident_bytes,
        beside_bytes=start.beside_bytes,
        server_bytes=serving.server_bytes,
        with_structured_output=serving.with_structured_output,
        with_store=serving.disk is not None,
    )
    return replace(choice, workload=workload, plan=layout.plan(spec, workload))


def _checkpoint_identity(source: ModelSource, spec: ModelSpec) -> str:
    """Return the identity of the files at hand; a header ends where its first tensor begins."""
    begins: dict[Path, int] = {}
    for entry in spec.weights.values():
        file = Path(entry.file).resolve()
        begins[file] = min(entry.offset, begins.get(file, entry.offset))
    return checkpoint_identity(source.path, begins)
