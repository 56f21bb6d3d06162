"""Budgets from where a model is refused to where all of it fits: none is worse with more memory.

Quality counts in nats beyond `high`; up to there a longer context may cost some (docs/planning.md).
Prints every step that the choice takes, and ends with 1 if a larger budget was worse. Nothing is
loaded.

Run: python bench/monotone.py MODEL.gguf... [--budgets 300]
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tonnage.core.model_spec import ModelSpec
from tonnage.core.quality import QUALITY_BOUNDS
from tonnage.engine.headers import read_spec
from tonnage.engine.planning import choose_here
from tonnage.planner.search.budget import Budget
from tonnage.planner.search.choose import PlanChoice
from tonnage.store.catalog import open_catalogs
from tonnage.store.source import resolve

MIB = 1 << 20
HIGH = QUALITY_BOUNDS["high"]
ROUNDING = 1e-9  # sums of the same losses in another order


def choices(spec: ModelSpec, count: int) -> list[tuple[int, PlanChoice]]:
    """Return `count` (budget, choice), from just below what is accepted to all that is useful."""

    def under(num_bytes: int) -> PlanChoice:
        return choose_here(spec, Budget(num_bytes, "were allowed"), {}, (), compare=False)

    least, whole = under(0).plan.total_bytes, under(1 << 50).plan.total_bytes
    first, last = int(0.95 * least), int(1.02 * whole)
    budgets = (first + (last - first) * i // (count - 1) for i in range(count))
    return [(num_bytes, under(num_bytes)) for num_bytes in budgets]


def is_worse(less: PlanChoice, more: PlanChoice) -> bool:
    """Whether `more`, chosen under a larger budget than `less`, is worse."""
    if not less.accepted:
        return False
    before, after = (max(HIGH, one.quality.mean_kld) for one in (less, more))
    shorter = more.workload.context_tokens < less.workload.context_tokens
    same = abs(after - before) <= ROUNDING * before
    return not more.accepted or after > before * (1 + ROUNDING) or (same and shorter)


def steps(made: list[tuple[int, PlanChoice]]) -> Iterator[str]:
    """Yield a line for each choice that differs from the one before."""
    shown = None
    for num_bytes, choice in made:
        work = choice.workload
        facts = (
            f"{work.context_tokens:>7,}  {choice.quality.mean_kld:8.4f}  {work.kv_format:>5}  "
            f"{work.max_rows:>4}"
            if choice.accepted
            else "refused"
        )
        if facts != shown:
            yield f"{num_bytes / MIB:8.1f}  {facts}"
        shown = facts


def main() -> int:
    """Print the steps of every model; return 1 if any is worse than one before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--budgets", type=int, default=300)
    args = parser.parse_args()
    catalogs = open_catalogs(None, os.environ)
    num_worse = 0
    for model in args.models:
        made = choices(read_spec(resolve(str(model), catalogs=catalogs)), args.budgets)
        chosen = [choice for _, choice in made]
        worse = sum(is_worse(a, b) for i, b in enumerate(chosen) for a in chosen[:i])
        print(f"{model.name}\n     MiB  context      nats     kv  rows")
        print("\n".join(steps(made)))
        print(f"{len(made)} budgets, {worse} pairs worse with more memory\n", flush=True)
        num_worse += worse
    return 1 if num_worse else 0


if __name__ == "__main__":
    sys.exit(main())
