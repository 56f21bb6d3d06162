"""The table of `tonnage bench`: each speed beside its ceiling."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tonnage.core.units import format_bytes

if TYPE_CHECKING:
    from tonnage.benchmark.report import Report
    from tonnage.benchmark.speed import Figure

_BAR_CELLS = 10


def render(report: "Report") -> str:
    """Return the report as lines of at most 100 columns."""
    return "\n".join([*_head(report), "", *_rows(report)]) + "\n"


def bar(share: float) -> str:
    """Return a bar of 10 cells, filled by `share` in eighths of a cell."""
    eighths = round(min(max(share, 0.0), 1.0) * 8 * _BAR_CELLS)
    full, rest = divmod(eighths, 8)
    partly = " ▏▎▍▌▋▊▉"[rest] if full < _BAR_CELLS else ""
    return ("█" * full + partly).ljust(_BAR_CELLS, "░").replace(" ", "░")


def _head(report: "Report") -> Iterator[str]:
    weights = format_bytes(report.weight_bytes_per_token)
    threads = report.threads
    yield (
        f"{report.model}, {report.isa}, {threads} thread{'s' if threads > 1 else ''}, "
        f"{weights} of weights per step"
    )
    yield (
        f"ceilings: memory reads {report.read_bandwidth_gb_s:.1f} GB/s, "
        f"int8 {report.int8_peak_gops:,.0f} GOPS (medians; each row has its own)"
    )
    peak = format_bytes(report.start.peak_rss_bytes)
    yield f"cold start {report.start.seconds:.2f} s, peak memory {peak}"


def _rows(report: "Report") -> Iterator[str]:
    yield f"{'':15} {'tokens/s':>9}   {'weights read, GB/s':31}   {'int8, GOPS'}"
    for one in report.decode:
        unit = "row" if one.size == 1 else "rows"
        label = f"decode {one.size:>3} {unit}"
        read = _beside(one.gb_s, one.ceiling.read_gb_s, ".1f")
        yield f"{label:15} {one.tokens_per_s:9,.1f}   {read:31}   {_int8(one)}"
    for one in report.prefill:
        label = f"prefill {one.size:>5}"
        yield f"{label:15} {one.tokens_per_s:9,.1f}   {'':31}   {_int8(one)}"


def _int8(figure: "Figure") -> str:
    return _beside(figure.gops, figure.ceiling.int8_gops, ",.0f")


def _beside(value: float, ceiling: float, form: str) -> str:
    share = value / ceiling
    return f"{value:{form}} of {ceiling:{form}}".rjust(14) + f" {bar(share)} {share:4.0%}"
