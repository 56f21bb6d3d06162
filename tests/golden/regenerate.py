"""The plans of tiny models of every family, as they are kept in tests/golden/plans.

After a change of the planner that is meant, write them anew and review the difference:

    PYTHONPATH=tests python -m golden.regenerate
"""

import json
from pathlib import Path

from support.checkpoints import FAMILIES, tiny_config, tiny_model
from tonnage.core.block_format import BF16
from tonnage.core.checkpoint import Catalog, TensorEntry
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import Plan
from tonnage.models.registry import spec_from_hf
from tonnage.planner.plan import Workload, make_plan

FOLDER = Path(__file__).parent / "plans"
WORKLOADS = {
    "": Workload(context_tokens=200, threads=2, concurrency=2, max_rows=16),
    "-8bit": Workload(
        context_tokens=64, threads=1, max_logit_rows=3, precision="8bit", kv_format="int8"
    ),
}


def tiny_spec(family: str) -> ModelSpec:
    """Return a model of two layers whose bfloat16 tensors lie one after another in one file."""
    config = tiny_config(family, hidden_size=128, num_hidden_layers=2)
    entries, offset = {}, 0
    for name, values in sorted(tiny_model(config).weights.items()):
        nbytes = BF16.nbytes(values.shape)
        entries[name] = TensorEntry(name, BF16, values.shape, "model", offset, nbytes)
        offset += nbytes
    return spec_from_hf(config, Catalog(entries, ("model",), offset))


def plans() -> dict[str, Plan]:
    """Return file name -> plan."""
    return {
        family + suffix: make_plan(tiny_spec(family), workload)
        for family in FAMILIES
        for suffix, workload in WORKLOADS.items()
    }


def main() -> None:
    """Write every plan as JSON with one value a line."""
    FOLDER.mkdir(exist_ok=True)
    for name, plan in plans().items():
        text = json.dumps(json.loads(plan.to_json()), indent=1, sort_keys=True)
        (FOLDER / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
