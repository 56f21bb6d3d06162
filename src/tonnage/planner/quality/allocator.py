"""What each matrix may become, and the mix that loses least under a budget.

A matrix only ever goes down to formats that loading can quantize to. Loss is that of
`tonnage.planner.quality.estimate`, a sum over matrices, so the best mix under a byte budget follows
from the convex hulls of its units (Everett 1963, generalized Lagrange multipliers).
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from tonnage.blocks.head import SENSITIVITY
from tonnage.core.layout import Layout
from tonnage.core.mix import Formats, lower_formats
from tonnage.core.model_spec import ModelSpec
from tonnage.core.record import record
from tonnage.planner.quality.estimate import loss_of

# What a matrix adds to the divergence in a format.
Loss = Callable[[str, str], float]


@record
class FormatCandidate:
    """A format that a matrix may take, and its bytes as it is laid out then."""

    format: str
    nbytes: int


def menus(spec: ModelSpec, layout: Layout) -> dict[str, tuple[FormatCandidate, ...]]:
    """Return for every matrix what it may be: its own format first, then all smaller ones."""
    found = {}
    for name, entry in spec.weights.items():
        if len(entry.shape) < 2:
            continue
        own, *lower = (
            FormatCandidate(fmt, layout.matrix_bytes(fmt, entry.shape))
            for fmt in (entry.format.name, *lower_formats(entry.shape[-1]))
        )
        found[name] = (own, *(candidate for candidate in lower if candidate.nbytes < own.nbytes))
    return found


@record
class _UnitFormats:
    """What a unit may be: a format per matrix, their bytes, the loss that follows."""

    formats: tuple[tuple[str, str], ...]
    nbytes: int
    loss: float


class Allocator:
    """Finds the formats of one model's matrices under any number of bytes."""

    def __init__(self, spec: ModelSpec, layout: Layout, loss: Loss | None = None) -> None:
        """Work out what every unit may be; loss: as it was measured, estimated if None."""
        self._spec = spec
        loss = loss or partial(loss_of, spec)
        self._hulls = [_hull(ways) for ways in _units(spec, layout, loss)]
        self._other_bytes = layout.other_weight_bytes(spec)
        self._unit_bytes = layout.weights_unit
        self._steps = sorted(
            (_slope(hull[i], hull[i + 1]), unit, i)
            for unit, hull in enumerate(self._hulls)
            for i in range(len(hull) - 1)
        )

    def formats(self, weight_budget_bytes: int) -> Formats | None:
        """Return the formats (name, format) of least estimated loss that fit, sorted by name.

        The budget is for the plan's item `weights`, which is a whole number of the layout's units.
        Matrices that keep their own format are left out, so () is the file as it stands. None: not
        even the smallest fit.
        """
        whole_units = weight_budget_bytes // self._unit_bytes * self._unit_bytes
        picks = _descend(self._hulls, self._steps, whole_units - self._other_bytes)
        if picks is None:
            return None
        ways = (hull[pick] for hull, pick in zip(self._hulls, picks, strict=True))
        chosen = (pair for way in ways for pair in way.formats)
        weights = self._spec.weights
        return tuple(sorted((n, f) for n, f in chosen if f != weights[n].format.name))


def _units(spec: ModelSpec, layout: Layout, loss: Loss) -> Iterator[list[_UnitFormats]]:
    """Yield the ways of every unit: matrices that change format together."""
    found = menus(spec, layout)
    for names in _unit_names(spec):
        menu_of = {name: found[name] for name in names}
        # Elements with padding, so that a format takes the same of each in all matrices.
        sizes = {n: layout.matrix_bytes("F32", spec.weights[n].shape) // 4 for n in names}
        limits = sorted({one.nbytes / sizes[n] for n in names for one in menu_of[n]})
        yield [_unit_formats(loss, menu_of, sizes, limit) for limit in limits]


def _unit_names(spec: ModelSpec) -> Iterator[tuple[str, ...]]:
    yield from ((name,) for name in SENSITIVITY if name in spec.weights)
    for prefix, branch in spec.branches:
        for roles in branch.block.units:
            yield tuple(prefix + role for role in roles)


def _unit_formats(
    loss: Loss,
    menu_of: Mapping[str, tuple[FormatCandidate, ...]],
    sizes: Mapping[str, int],
    limit: float,
) -> _UnitFormats:
    """Return the unit with at most `limit` bytes an element, or each matrix's least above it."""
    picked = {}
    for name, menu in menu_of.items():
        below = [r for r in menu if r.nbytes <= limit * sizes[name] * (1 + 1e-9)]
        picked[name] = below[0] if below else menu[-1]
    formats = tuple((name, candidate.format) for name, candidate in picked.items())
    lost = sum(loss(name, fmt) for name, fmt in formats)
    return _UnitFormats(formats, sum(candidate.nbytes for candidate in picked.values()), lost)


def _hull(ways: list[_UnitFormats]) -> list[_UnitFormats]:
    """Return the lower convex hull, most bytes first: each step down costs more loss per byte."""
    hull: list[_UnitFormats] = []
    for way in sorted(ways, key=lambda c: (-c.nbytes, c.loss)):
        if hull and way.nbytes == hull[-1].nbytes:
            continue
        while len(hull) > 1 and _slope(hull[-1], way) <= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(way)
    return hull


def _slope(upper: _UnitFormats, lower: _UnitFormats) -> float:
    return (lower.loss - upper.loss) / (upper.nbytes - lower.nbytes)


def _descend(
    hulls: list[list[_UnitFormats]], steps: list[tuple[float, int, int]], limit_bytes: int
) -> list[int] | None:
    """Return the index that each hull takes, or None when even the last ones exceed the limit.

    steps: (loss per byte, hull, index), the cheapest first. A larger limit never loses more: the
    steps taken are the best for what they free, and of those taken back the dearest that fits
    outweighs all that would fit in less.
    """
    picks = [0] * len(hulls)
    total = sum(hull[0].nbytes for hull in hulls)
    taken = 0
    while total > limit_bytes and taken < len(steps):
        _, unit, i = steps[taken]
        total -= hulls[unit][i].nbytes - hulls[unit][i + 1].nbytes
        picks[unit] = i + 1
        taken += 1
    if total > limit_bytes:
        return None
    # The last step may have freed more than was missing: take back what fits, the dearest first.
    for _, unit, i in reversed(steps[:taken]):
        back = hulls[unit][i].nbytes - hulls[unit][i + 1].nbytes
        if picks[unit] == i + 1 and total + back <= limit_bytes:
            picks[unit] = i
            total += back
    return picks
