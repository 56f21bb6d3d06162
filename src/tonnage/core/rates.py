"""What this machine was measured to do: the constants of the forecast, as plain values."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tonnage.core.errors import MachineError


@dataclass(frozen=True, slots=True)
class ProductRate:
    """How fast matrices of one format are multiplied.

    bytes_per_s: weights read from memory for a single token row. macs_per_s: (rows, multiply-adds
    per second) when so many rows share the pass over the weights, by ascending rows from 1.
    """

    format: str
    bytes_per_s: float
    macs_per_s: tuple[tuple[int, float], ...]

    def weight_s(self, rows: int) -> float:
        """Return the seconds per weight of a pass that `rows` rows share."""
        low_rows, low = 0, 0.0
        for at, rate in self.macs_per_s:
            each = at / rate
            if rows <= at:
                return low + (each - low) * (rows - low_rows) / (at - low_rows)
            low_rows, low = at, each
        return low * rows / low_rows


@dataclass(frozen=True, slots=True)
class TeamRates:
    """What `threads` threads do together.

    read_bytes_per_s: plain reads of memory. op_s: an operation that does nothing, its barrier
    included. product_s: what a product takes beside that, its bytes and its multiply-adds.
    element_s: (operation, seconds per element of a row on one of the threads). attend_macs_per_s:
    (query vectors that share a pass over keys and values, multiply-adds per second), ascending.
    """

    threads: int
    read_bytes_per_s: float
    op_s: float
    product_s: float
    element_s: tuple[tuple[str, float], ...]
    attend_macs_per_s: tuple[tuple[int, float], ...]
    products: tuple[ProductRate, ...]

    def element(self, op: str) -> float:
        """Return the seconds per element of `op`, 0 for one that was not measured."""
        return next((seconds for name, seconds in self.element_s if name == op), 0.0)

    def attend_rate(self, queries: int) -> float:
        """Return the multiply-adds per second of attention when `queries` share a pass."""
        low_at, low = self.attend_macs_per_s[0]
        for at, rate in self.attend_macs_per_s:
            if queries <= at:
                share = (queries - low_at) / (at - low_at) if at > low_at else 1.0
                return low + (rate - low) * min(max(share, 0.0), 1.0)
            low_at, low = at, rate
        return low


@dataclass(frozen=True, slots=True)
class Rates:
    """What one machine does, per number of threads (ascending).

    key: of machine and kernels, see tonnage.machine.calibration. spin_s: a fixed piece of work in
    registers, for telling whether the clock is what it was. call_s: one call of the native program.
    logit_s: sampling, per entry of the vocabulary.
    """

    key: str
    spin_s: float
    call_s: float
    logit_s: float
    teams: tuple[TeamRates, ...]

    def to_json(self) -> str:
        """Return the rates as JSON; `from_json` restores an equal value."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Rates":
        """Return the rates that `to_json` wrote. Raises MachineError for anything else."""
        try:
            return _rates(json.loads(text))
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
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
        _positive(raw["spin_s"]),
        _positive(raw["call_s"]),
        _positive(raw["logit_s"]),
        teams,
    )


def _team(raw: Mapping[str, Any]) -> TeamRates:
    return TeamRates(
        threads=_count(raw["threads"]),
        read_bytes_per_s=_positive(raw["read_bytes_per_s"]),
        op_s=_positive(raw["op_s"]),
        product_s=_not_negative(raw["product_s"]),
        element_s=tuple((str(op), _not_negative(value)) for op, value in raw["element_s"]),
        attend_macs_per_s=_curve(raw["attend_macs_per_s"]),
        products=tuple(
            ProductRate(str(p["format"]), _positive(p["bytes_per_s"]), _curve(p["macs_per_s"]))
            for p in raw["products"]
        ),
    )


def _curve(points: Sequence[Sequence[Any]]) -> tuple[tuple[int, float], ...]:
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
