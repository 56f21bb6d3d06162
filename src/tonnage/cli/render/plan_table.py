"""The tables of `tonnage plan` and `tonnage run --ledger`, at most 100 columns wide."""

from collections.abc import Iterator

from tonnage.cli.render.bench_table import bar
from tonnage.core.ledger import Ledger
from tonnage.core.plan import Plan
from tonnage.core.units import format_bytes

_NAME = 26
_CHART_CELLS = 60


def render_plan(model: str, plan: Plan, budget_bytes: int) -> str:
    """Return the items with their shares of the total, and the total beside the budget."""
    total = plan.total_bytes
    rows = [
        f"{item.name:{_NAME}} {item.kind:8} {format_bytes(item.planned_bytes):>11}  "
        f"{bar(item.planned_bytes / total)} {item.planned_bytes / total:5.1%}"
        for item in plan.items
    ]
    return "\n".join([_head(model, plan), "", *rows, "", _verdict(total, budget_bytes)])


def render_chart(model: str, plan: Plan, budget_bytes: int) -> str:
    """Return the items stacked from left to right: each row begins where the one above ends."""
    scale = max(plan.total_bytes, budget_bytes if budget_bytes < 2 * plan.total_bytes else 0)
    lines, before = [], 0
    for item in plan.items:
        after = before + item.planned_bytes
        begin, end = (round(_CHART_CELLS * at / scale) for at in (before, after))
        cells = " " * min(begin, _CHART_CELLS - 1) + "█" * (end - begin) if end > begin else ""
        cells = cells or " " * min(begin, _CHART_CELLS - 1) + "▏"
        size = format_bytes(item.planned_bytes)
        lines.append(f"{item.name:{_NAME}}{cells:{_CHART_CELLS}} {size:>11}")
        before = after
    if budget_bytes <= scale:
        mark = " " * max(0, round(_CHART_CELLS * budget_bytes / scale) - 1) + "┃"
        lines.append(f"{'budget':{_NAME}}{mark:{_CHART_CELLS}} {format_bytes(budget_bytes):>11}")
    return "\n".join([_head(model, plan), "", *lines, "", _verdict(plan.total_bytes, budget_bytes)])


def render_ledger(ledger: Ledger) -> str:
    """Return the items planned, now and at their peak, and the whole process beside them."""
    return "\n".join(_ledger_lines(ledger))


def _ledger_lines(ledger: Ledger) -> Iterator[str]:
    yield f"{'':{_NAME}} {'planned':>11} {'now':>11} {'peak':>11}  measured by"
    for item in ledger.items:
        sizes = (item.planned_bytes, item.now_bytes, item.peak_bytes)
        yield f"{item.name:{_NAME}} {_columns(*sizes)}  {item.measured_by}"
    yield f"{'unaccounted':{_NAME}} {'':11} {format_bytes(ledger.unaccounted_bytes):>11}"
    yield f"{'process':{_NAME}} " + _columns(
        ledger.total_bytes, ledger.rss_bytes, ledger.peak_rss_bytes
    )
    yield f"{'budget':{_NAME}} {format_bytes(ledger.budget_bytes):>11}"


def _columns(*sizes: int) -> str:
    return " ".join(f"{format_bytes(size):>11}" for size in sizes)


def _head(model: str, plan: Plan) -> str:
    rules = "".join(f"\nrotary embedding: {rope.rule}" for rope in plan.ropes if rope.rule)
    return (
        f"{model}: context {plan.context_tokens:,} tokens, concurrency {plan.concurrency}, "
        f"threads {plan.threads}, {plan.max_rows} rows per step, KV {plan.kv.format}{rules}"
    )


def _verdict(total_bytes: int, budget_bytes: int) -> str:
    rest = budget_bytes - total_bytes
    words = "to spare" if rest >= 0 else "short"
    return (
        f"total {format_bytes(total_bytes)} of {format_bytes(budget_bytes)}, "
        f"{format_bytes(abs(rest))} {words}"
    )
