"""What this machine was measured to do: the constants of the forecast, as plain values."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tonnage.core.block_format import ALL_FORMATS
from tonnage.core.errors import MachineError
from tonnage.core.plan import KV_FORMATS
from tonnage.core.record import record

Curve = tuple[tuple[int, float], ...]
PRODUCT_ROWS = 8
# Kinds of operations that take different times, as Work.elements and TeamRates.element_s name them.
GATED = ("gated silu", "gated gelu")


def rope_kv_write_kind(kv_format: str, *, normed: bool) -> str:
    """Return the name of a rope that writes pages of one format."""
    return f"rope_kv_write {kv_format} normed" if normed else f"rope_kv_write {kv_format}"


# Formats that are not measured, and whose panels cost about as much: by bits of codes and kinds of
# scales. A calibration would take half as long again for formats that few models have.
_TIMED_AS = {
    "F64": "F32", "F8_E4M3": "F16", "NVFP4": "IQ4_XS", "IQ3_XXS": "IQ4_XS", "IQ3_S": "IQ4_XS",
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S"), "Q3_K"),
    **dict.fromkeys(("TQ1_0", "TQ2_0", "Q1_0", "Q2_0"), "Q2_K"),
}  # fmt: skip
MEASURED_FORMATS = tuple(form for form in ALL_FORMATS if form.name not in _TIMED_AS)


def timed_as(name: str) -> str:
    """Return the format whose rate counts for matrices of format `name`."""
    return _TIMED_AS.get(name, name)


@record
class ProductRate:
    """How fast matrices of one format are multiplied.

    bytes_per_s: weights read from memory for a single token row. fresh, cached: by ascending rows
    from 1, (rows, multiply-adds per second) when so many rows share the pass over weights that
    come from memory, or from the last cache. The first holds the slower of both terms,
    bytes over bandwidth and multiply-adds over rate, and what of them does not overlap; passes
    that more rows share than it says wait no longer for the memory.
    """

    format: str
    bytes_per_s: float
    fresh: Curve
    cached: Curve

    def weight_s(self, rows: int, cached: float, beside_s: float = 0.0) -> float:
        """Return the seconds per weight of a pass that `rows` share; cached: its share of bytes.

        beside_s: what is done with the sums meanwhile, per weight. It counts apart, and hides as
        much of the wait for the memory.
        """
        few = min(rows, self.fresh[-1][0])
        waits_s = _pass_s(self.fresh, few) - _pass_s(self.cached, few)
        return _pass_s(self.cached, rows) + (1 - cached) * max(0.0, waits_s - beside_s)


def _pass_s(curve: Curve, rows: int) -> float:
    low_rows, low = 0, 0.0
    for at, rate in curve:
        each = at / rate
        if rows <= at:
            return low + (each - low) * (rows - low_rows) / (at - low_rows)
        low_rows, low = at, each
    return low * rows / low_rows


@record
class AttendRate:
    """Attention when so many query vectors share a pass over pages of one format.

    start_s, start_element_s: seconds per query, and per element of its key and value, however few
    positions it sees. pair_s: per query and position of the pages it sees; mac_s: per multiply-add.
    """

    kv_format: str
    queries: int
    start_s: float
    start_element_s: float
    pair_s: float
    mac_s: float

    def towards(self, other: "AttendRate", queries: float) -> "AttendRate":
        """Return the rate between this one and `other`, which has more queries or is the same."""
        span = other.queries - self.queries
        share = min(max((queries - self.queries) / span, 0.0), 1.0) if span else 1.0
        pairs = zip(self.seconds, other.seconds, strict=True)
        start, element, pair, mac = (mine + (theirs - mine) * share for mine, theirs in pairs)
        return AttendRate(self.kv_format, round(queries), start, element, pair, mac)

    @property
    def seconds(self) -> tuple[float, float, float, float]:
        """All of its times, in the order of the fields."""
        return self.start_s, self.start_element_s, self.pair_s, self.mac_s


@record
class PageRate:
    """What a row's pages of one format cost, to write to and to attend, beside the arithmetic.

    All of it only where no cache holds them. visit_s, element_s: of each sequence and key head
    whose pages a row uses, however few they are, and what each element of its key and value adds
    to that. byte_s: per byte; the arithmetic hides the rest of their reading.
    """

    kv_format: str
    visit_s: float
    element_s: float
    byte_s: float


@record
class TeamRates:
    """What `threads` threads do together.

    read_bytes_per_s: of memory, at best. cached_bytes: what the last cache keeps of weights that
    are read over and over, however many they are. call_s: a step without operations, its threads
    woken from the pause between two tokens. op_s: an operation that does nothing, with its barrier.
    product_s: what a product takes beside that, its bytes and its multiply-adds, and product_row_s
    what each row more adds to it, up to PRODUCT_ROWS of them.
    element_s: (operation, with what distinguishes its kinds; seconds per element of a row on one of
    the threads, of a product per element it writes). attend: by ascending queries, for every format
    of pages; pages: one each.
    """

    threads: int
    read_bytes_per_s: float
    cached_bytes: int
    call_s: float
    op_s: float
    product_s: float
    product_row_s: float
    element_s: tuple[tuple[str, float], ...]
    attend: tuple[AttendRate, ...]
    pages: tuple[PageRate, ...]
    products: tuple[ProductRate, ...]

    def product_overhead_s(self, rows: int) -> float:
        """Return the seconds of a product of so many rows beside its weights."""
        return self.product_s + self.product_row_s * (min(rows, PRODUCT_ROWS) - 1)

    def element(self, op: str) -> float:
        """Return the seconds per element of `op`, 0 for one that was not measured."""
        return next((seconds for name, seconds in self.element_s if name == op), 0.0)

    def attend_at(self, kv_format: str, queries: float) -> AttendRate:
        """Return the rate for pages of one format and any number of queries that share a pass."""
        rates = [rate for rate in self.attend if rate.kv_format == kv_format]
        below = rates[0]
        for rate in rates:
            if queries <= rate.queries:
                return below.towards(rate, queries)
            below = rate
        return below

    def pages_of(self, kv_format: str) -> PageRate:
        """Return what pages of one format cost."""
        return next(rate for rate in self.pages if rate.kv_format == kv_format)


@record
class Rates:
    """What one machine does, per number of threads (ascending).

    key: of machine and kernels, see tonnage.machine.calibration. spin_s: a fixed piece of work in
    registers, for telling whether the clock is what it was. call_s: one call of the native program.
    logit_s: sampling, per entry of the vocabulary.
    """

    key: str
    isa: str
    clock_ops_per_s: float
    logit_s: float
    teams: tuple[TeamRates, ...]

    def read_bytes_per_s(self, threads: int) -> float:
        """Return what the memory gives to the largest team of at most `threads` threads."""
        fitting = [team for team in self.teams if team.threads <= threads] or self.teams[:1]
        return fitting[-1].read_bytes_per_s

    def to_json(self) -> str:
        """Return the rates as JSON; `from_json` restores an equal value."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Rates":
        """Return the rates that `to_json` wrote. Raises MachineError for anything else."""
        try:
            return _rates(json.loads(text))
        except (
            TypeError, ValueError, KeyError, AttributeError, RecursionError, OverflowError,
        ) as error:  # fmt: skip
            raise MachineError(
                f"The measured rates cannot be read ({error}); measure again with "
                "`tonnage doctor --measure`."
            ) from None


def _rates(raw: Mapping[str, Any]) -> Rates:
    teams = tuple(_team(team) for team in raw["teams"])
    if not teams or [t.threads for t in teams] != sorted({t.threads for t in teams}):
        raise ValueError("teams are missing or out of order")
    return Rates(
        str(raw["key"]),
        _word(raw["isa"]),
        _positive(raw["clock_ops_per_s"]),
        _positive(raw["logit_s"]),
        teams,
    )


def _word(value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    raise ValueError(f"{value!r} is not a word")


def _team(raw: Mapping[str, Any]) -> TeamRates:
    return TeamRates(
        threads=_count(raw["threads"]),
        read_bytes_per_s=_positive(raw["read_bytes_per_s"]),
        cached_bytes=int(_not_negative(raw["cached_bytes"])),
        call_s=_positive(raw["call_s"]),
        op_s=_positive(raw["op_s"]),
        product_s=_not_negative(raw["product_s"]),
        product_row_s=_not_negative(raw["product_row_s"]),
        element_s=tuple((str(op), _not_negative(value)) for op, value in raw["element_s"]),
        attend=_attend(raw["attend"]),
        pages=_pages(raw["pages"]),
        products=tuple(
            ProductRate(
                str(p["format"]),
                _positive(p["bytes_per_s"]),
                _curve(p["fresh"]),
                _curve(p["cached"]),
            )
            for p in raw["products"]
        ),
    )


def _attend(raw: Sequence[Mapping[str, Any]]) -> tuple[AttendRate, ...]:
    rates = tuple(
        AttendRate(
            str(r["kv_format"]),
            _count(r["queries"]),
            _not_negative(r["start_s"]),
            _not_negative(r["start_element_s"]),
            _not_negative(r["pair_s"]),
            _positive(r["mac_s"]),
        )
        for r in raw
    )
    for wanted in KV_FORMATS:
        queries = [rate.queries for rate in rates if rate.kv_format == wanted]
        if not queries or queries != sorted(set(queries)):
            raise ValueError(f"attention over {wanted} pages is missing or out of order")
    return rates


def _pages(raw: Sequence[Mapping[str, Any]]) -> tuple[PageRate, ...]:
    rates = tuple(
        PageRate(
            str(r["kv_format"]),
            _not_negative(r["visit_s"]),
            _not_negative(r["element_s"]),
            _not_negative(r["byte_s"]),
        )
        for r in raw
    )
    if tuple(rate.kv_format for rate in rates) != KV_FORMATS:
        raise ValueError("the pages of a format are missing")
    return rates


def _curve(points: Sequence[Sequence[Any]]) -> Curve:
    curve = tuple((_count(at), _positive(rate)) for at, rate in points)
    if not curve or [at for at, _ in curve] != sorted({at for at, _ in curve}):
        raise ValueError("a curve is empty or out of order")
    return curve


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} is not a number from 1")
    return value


def _positive(value: Any) -> float:
    if _not_negative(value) == 0:
        raise ValueError("a rate is 0")
    return float(value)


def _not_negative(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    if not 0 <= value < math.inf:
        raise ValueError(f"{value!r} is not a rate")
    return float(value)
