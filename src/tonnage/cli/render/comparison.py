"""Models beside each other: a table with bars, and the same as a picture."""

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from tonnage.cli.render.bench_table import bar
from tonnage.cli.render.choice_words import nats_in_words
from tonnage.core.record import record
from tonnage.core.units import format_bytes


@record
class Compared:
    """One model of a comparison, by the plan that this machine would choose for it.

    bits: of a weight in the mean. lost_nats: what its formats lose to 16 bits, an estimate; None
    where that is not known. perplexity: what an audit of the file measured. tokens_per_s: forecast.
    """

    name: str
    weights: str
    bits: float
    file_bytes: int
    memory_bytes: int
    fits: bool
    context_tokens: int
    lost_nats: float | None
    perplexity: float | None
    tokens_per_s: float | None


_NAME = 30
_COLOURS = {"bytes": ("#1d4ed8", "#60a5fa"), "nats": ("#c2410c", "#fb923c"),
            "speed": ("#15803d", "#4ade80")}  # fmt: skip


def render_comparison(rows: Sequence[Compared], budget_bytes: int) -> Iterator[str]:
    """Yield the lines of the table, at most 100 columns, and of a chart below it."""
    yield (
        f"{'model':{_NAME}} {'file':>10} {'memory':>10} {'bits':>5} {'nats lost':>9} "
        f"{'perplexity':>10} {'tokens/s':>8} {'context':>8}"
    )
    for row in rows:
        lost = _or_blank(row.lost_nats, ".3g")
        yield (
            f"{_short(row.name):{_NAME}} {format_bytes(row.file_bytes):>10} "
            f"{format_bytes(row.memory_bytes):>10} {row.bits:5.2f} {lost:>9} "
            f"{_or_blank(row.perplexity, '.2f'):>10} {_or_blank(row.tokens_per_s, ',.0f'):>8} "
            f"{row.context_tokens:8,}"
        )
    yield ""
    for title, values in _charts(rows):
        most = max((value or 0.0 for value, _ in values), default=0.0) or 1.0
        yield f"{title}"
        for row, (value, words) in zip(rows, values, strict=True):
            yield f"  {_short(row.name):{_NAME}} {bar((value or 0.0) / most)} {words}"
    yield ""
    yield "nats lost: of a model's weights to its own in 16 bits, estimated;"
    yield f"  {nats_in_words()}."
    yield "  Between models that were trained differently it says nothing. tokens/s: forecast."
    for row in rows:
        if not row.fits:
            short = format_bytes(row.memory_bytes - budget_bytes)
            yield f"{_short(row.name)} does not fit {format_bytes(budget_bytes)}: {short} short."


def render_comparison_svg(rows: Sequence[Compared]) -> str:
    """Return the chart as a picture that follows light and dark; figures as `data-value`."""
    charts = list(_charts(rows))
    height = 40 + len(charts) * (34 + 24 * len(rows))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f"<title>{escape(', '.join(_short(row.name) for row in rows))}</title>",
        _style(),
        f'<rect class="ground" width="760" height="{height}"/>',
    ]
    y = 30
    for kind, (title, values) in zip(_COLOURS, charts, strict=True):
        most = max((value or 0.0 for value, _ in values), default=0.0) or 1.0
        parts.append(f'<text class="head" x="16" y="{y}">{escape(title)}</text>')
        for row, (value, words) in zip(rows, values, strict=True):
            y += 24
            width = round(320 * (value or 0.0) / most)
            parts.append(f'<text x="16" y="{y}">{escape(_short(row.name))}</text>')
            parts.append(
                f'<rect class="{kind}" x="270" y="{y - 12}" width="{width}" height="15" rx="2" '
                f'data-value="{value or 0:g}"/>'
            )
            parts.append(f'<text x="{278 + width}" y="{y}">{escape(words)}</text>')
        y += 34
    return "\n".join([*parts, "</svg>"]) + "\n"


def _charts(
    rows: Sequence[Compared],
) -> Iterator[tuple[str, list[tuple[float | None, str]]]]:
    """Yield a title, and each model's value with its words: bytes, quality, speed."""
    yield "memory", [(float(r.memory_bytes), format_bytes(r.memory_bytes)) for r in rows]
    yield "nats lost", [(r.lost_nats, _or_blank(r.lost_nats, ".3g") or "unknown") for r in rows]
    yield (
        "tokens per second",
        [
            (r.tokens_per_s, _or_blank(r.tokens_per_s, ",.0f") or "this machine was not measured")
            for r in rows
        ],
    )


def _style() -> str:
    def fills(place: int) -> str:
        return "".join(f".{kind}{{fill:{pair[place]}}}" for kind, pair in _COLOURS.items())

    return (
        "<style>.ground{fill:#fff}text{fill:#111827}.head{font-weight:600}"
        f"{fills(0)}@media (prefers-color-scheme: dark){{.ground{{fill:#111827}}"
        f"text{{fill:#f3f4f6}}{fills(1)}}}</style>"
    )


def _or_blank(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"


def _short(name: str) -> str:
    """Return a name as a table has room for it: of a path its end."""
    last = name.rstrip("/").rpartition("/")[2]
    return last if len(last) <= _NAME else f"{last[: _NAME - 1]}…"
