"""A picture of a plan: bytes over the life of the process, as SVG that follows light and dark."""

from collections.abc import Iterator
from itertools import accumulate
from xml.sax.saxutils import escape, quoteattr

from tonnage.cli.render.timeline import PHASES, Timeline, phase_peaks, timelines
from tonnage.core.plan import Plan
from tonnage.core.units import format_bytes

_WIDTH, _LEFT, _TOP, _BOTTOM, _RIGHT = 960, 84, 64, 372, 640
_PHASE_WIDTH = (_RIGHT - _LEFT) // len(PHASES)
_LABELS = {"start": "started", "load": "loading", "prefill": "prompt", "decode": "answer"}
# One hue per item, darker on light ground and lighter on dark.
_LIGHT = [
    "#6b7280", "#0e7490", "#a16207", "#1d4ed8", "#c2410c",
    "#15803d", "#7e22ce", "#be185d", "#4d7c0f",
]  # fmt: skip
_DARK = [
    "#9ca3af", "#22d3ee", "#eab308", "#60a5fa", "#fb923c",
    "#4ade80", "#c084fc", "#f472b6", "#a3e635",
]  # fmt: skip


def render_svg(model: str, plan: Plan, budget_bytes: int) -> str:
    """Return the picture: phases from left to right, items stacked, the total and the budget.

    Every figure is the plan's: an item carries its bytes as `data-planned-bytes`, a phase its most
    as `data-peak-bytes`. The width of a phase says nothing about its time.
    """
    lines = timelines(plan)
    shown = budget_bytes if budget_bytes < 2 * plan.total_bytes else 0
    scale = _BOTTOM - _TOP, 1.04 * max(plan.total_bytes, shown)
    height = max(_BOTTOM + 60, _TOP + 26 * (len(lines) + 3))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13" data-total-bytes="{plan.total_bytes}" '
        f'data-budget-bytes="{budget_bytes}">',
        f"<title>{escape(model)}: memory over the life of the process</title>",
        _style(len(lines)),
        f'<rect class="ground" width="{_WIDTH}" height="{height}"/>',
        _text(_LEFT, 24, _heading(model, plan), "head"),
        *_areas(lines, scale),
        *_phases(plan, scale),
        *_level("total", plan.total_bytes, scale),
        *(_level("budget", budget_bytes, scale) if shown else ()),
        *_legend(lines),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _heading(model: str, plan: Plan) -> str:
    return (
        f"{model}: {plan.context_tokens:,} tokens of context, {plan.concurrency} at once, "
        f"{plan.threads} threads"
    )


def _style(num_items: int) -> str:
    def fills(colours: list[str]) -> str:
        return "".join(f".i{i}{{fill:{colours[i % len(colours)]}}}" for i in range(num_items))

    return (
        "<style>.ground{fill:#fff}text{fill:#111827}.head{font-weight:600}.faint{fill:#4b5563}"
        ".line{stroke:#111827;stroke-width:1;fill:none}.budget{stroke-dasharray:6 4}"
        f".cut{{stroke:#d1d5db}}{fills(_LIGHT)}"
        "@media (prefers-color-scheme: dark){.ground{fill:#111827}text{fill:#f3f4f6}"
        ".faint{fill:#d1d5db}.line{stroke:#f3f4f6}.cut{stroke:#374151}"
        f"{fills(_DARK)}}}</style>"
    )


def _y(num_bytes: int, scale: tuple[int, float]) -> float:
    pixels, most = scale
    return round(_BOTTOM - pixels * num_bytes / most, 2)


def _areas(lines: tuple[Timeline, ...], scale: tuple[int, float]) -> Iterator[str]:
    """Yield one polygon per item, each standing on those before it."""
    times = 2 * len(PHASES)
    flat = [[pair[end] for pair in timeline.bytes_at for end in (0, 1)] for timeline in lines]
    tops = list(
        accumulate(flat, lambda below, own: [a + b for a, b in zip(below, own, strict=True)])
    )
    xs = [_LEFT + (at + 1) // 2 * _PHASE_WIDTH for at in range(times)]
    below = [0] * times
    for index, (timeline, top) in enumerate(zip(lines, tops, strict=True)):
        upper = [f"{x},{_y(value, scale)}" for x, value in zip(xs, top, strict=True)]
        lower = [f"{x},{_y(value, scale)}" for x, value in zip(xs, below, strict=True)]
        item = timeline.item
        yield (
            f'<polygon class="i{index}" data-item={quoteattr(item.name)} '
            f'data-planned-bytes="{item.planned_bytes}" '
            f'points="{" ".join(upper + lower[::-1])}"><title>{escape(item.name)}: '
            f"{item.planned_bytes:,} bytes</title></polygon>"
        )
        below = top


def _phases(plan: Plan, scale: tuple[int, float]) -> Iterator[str]:
    for index, (name, peak) in enumerate(zip(PHASES, phase_peaks(plan), strict=True)):
        left = _LEFT + index * _PHASE_WIDTH
        yield f'<path class="line cut" d="M{left} {_TOP}V{_BOTTOM}"/>'
        middle = left + _PHASE_WIDTH // 2
        yield _text(middle, _BOTTOM + 20, _LABELS[name], "", "middle")
        yield (
            f'<text class="faint" x="{middle}" y="{_BOTTOM + 38}" text-anchor="middle" '
            f'data-phase="{name}" data-peak-bytes="{peak}">{format_bytes(peak)}</text>'
        )
    yield f'<path class="line" d="M{_LEFT} {_BOTTOM}H{_RIGHT}"/>'


def _level(name: str, num_bytes: int, scale: tuple[int, float]) -> Iterator[str]:
    y = _y(num_bytes, scale)
    yield f'<path class="line {name}" d="M{_LEFT} {y}H{_RIGHT}"/>'
    # At opposite ends, so that two close lines do not overlap.
    x, anchor = (_LEFT + 6, "start") if name == "total" else (_RIGHT - 6, "end")
    yield _text(x, y - 5, f"{name} {format_bytes(num_bytes)}", "", anchor)


def _legend(lines: tuple[Timeline, ...]) -> Iterator[str]:
    for row, (index, timeline) in enumerate(reversed(list(enumerate(lines)))):
        y = _TOP + 8 + 26 * row
        yield f'<rect class="i{index}" x="{_RIGHT + 24}" y="{y}" width="14" height="14"/>'
        yield _text(_RIGHT + 46, y + 12, timeline.item.name)
        yield _text(_WIDTH - 16, y + 12, format_bytes(timeline.item.planned_bytes), "", "end")


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text{style} x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'
