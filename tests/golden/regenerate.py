"""Plans of tiny models of every family, and choices for real ones, as they are kept beside this.

After a change of the planner that is meant, write them anew and review the difference:

    PYTHONPATH=tests python -m golden.regenerate
"""

import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from golden.spec_files import NAMES, load
from support.checkpoints import FAMILIES, tiny_config, tiny_model
from support.speeds import plain_speed
from tonnage.backends.cpu.layout.cpu_layout import CpuLayout
from tonnage.backends.cpu.layout.plan import make_plan
from tonnage.core.block_format import BF16
from tonnage.core.checkpoint import Catalog, TensorEntry
from tonnage.core.machine import Machine
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import Plan
from tonnage.core.workload import Workload
from tonnage.models.registry import spec_from_hf
from tonnage.planner.quality.precision import precision_formats
from tonnage.planner.search.budget import Budget
from tonnage.planner.search.choose import PlanChoice, Question, choose
from tonnage.planner.search.constraints import Constraints

FOLDER = Path(__file__).parent / "plans"
CHOICES = Path(__file__).parent / "choices"
# Of what the file as it stands takes with everything else as usual.
BUDGET_SHARES = (1.0, 0.98, 0.9, 0.8, 0.65, 0.4)
MACHINE = Machine(
    "golden", "avx2", "avx2", 4, (0, 1, 2, 3), 4, None, (), 1 << 35, 1 << 35, (), "madvise",
    1 << 21, (),
)  # fmt: skip
# Of two layers, one rotates nothing.
CHANGES: dict[str, dict[str, Any]] = {"smollm3": {"no_rope_layers": [1, 0]}}
WORKLOADS = {
    "": Workload(context_tokens=200, threads=2, concurrency=2, max_rows=16),
    "-8bit": Workload(context_tokens=64, threads=1, max_logit_rows=3, kv_format="int8"),
}


def tiny_spec(family: str) -> ModelSpec:
    """Return a model of two layers whose bfloat16 tensors lie one after another in one file."""
    changes = CHANGES.get(family, {})
    config = tiny_config(family, hidden_size=128, num_hidden_layers=2, **changes)
    entries, offset = {}, 0
    for name, values in sorted(tiny_model(config).weights.items()):
        nbytes = BF16.nbytes(values.shape)
        entries[name] = TensorEntry(name, BF16, values.shape, "model", offset, nbytes)
        offset += nbytes
    return spec_from_hf(config, Catalog(entries, ("model",), offset))


def plans() -> dict[str, Plan]:
    """Return file name -> plan."""
    return {
        family + suffix: _plan(tiny_spec(family), workload, suffix.removeprefix("-") or None)
        for family in FAMILIES
        for suffix, workload in WORKLOADS.items()
    }


def _plan(spec: ModelSpec, workload: Workload, precision: str | None) -> Plan:
    return make_plan(spec, replace(workload, formats=precision_formats(spec, precision)))


def choices() -> dict[str, list[dict[str, Any]]]:
    """Return model -> what is chosen for every share of what its file would take."""
    return {name: [_choice(load(name), share) for share in BUDGET_SHARES] for name in NAMES}


def _choice(spec: ModelSpec, share: float) -> dict[str, Any]:
    question = Question(spec, MACHINE, CpuLayout(), Constraints(), plain_speed())

    def under(num_bytes: int) -> PlanChoice:
        return choose(question, Budget(num_bytes, "were allowed"))

    choice = under(int(share * under(1 << 35).plan.total_bytes))
    return {
        "share": share,
        "accepted": choice.accepted,
        "total_bytes": choice.plan.total_bytes,
        "items": {item.name: item.planned_bytes for item in choice.plan.items},
        "formats": Counter(matrix.format for matrix in choice.plan.matrices),
        "kv_format": choice.plan.kv.format,
        "context_tokens": choice.plan.context_tokens,
        "max_batch_tokens": choice.plan.max_rows,
        "threads": choice.plan.threads,
        # Nothing is measured here.
        "quality": {n: v for n, v in asdict(choice.quality).items() if n != "estimated_kld"},
        "rejected": [
            f"{one.change}: {one.total_bytes} bytes, {one.quality.mean_kld:.3g} nats, {one.reason}"
            for one in choice.rejected
        ],
        "relaxations": [asdict(one) for one in choice.relaxations],
    }


def main() -> None:
    """Write every plan as JSON with one value a line."""
    FOLDER.mkdir(exist_ok=True)
    for name, plan in plans().items():
        text = json.dumps(json.loads(plan.to_json()), indent=1, sort_keys=True)
        (FOLDER / f"{name}.json").write_text(text + "\n")
    CHOICES.mkdir(exist_ok=True)
    for name, made in choices().items():
        text = json.dumps(made, indent=1, sort_keys=True)
        (CHOICES / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
