"""What is left of a target: matrices go up while something fits that loses less.

The allocator takes each unit along its convex hull, whose steps may be large: a table of 262,144
rows goes from 8 to 5 bits in one of them, and what such a step frees too much stays unused.
"""

from tonnage.blocks.head import SENSITIVITY
from tonnage.core.mix import Formats
from tonnage.core.model_spec import ModelSpec
from tonnage.packing.file_layout import FileLayout
from tonnage.packing.losses import Losses
from tonnage.planner.quality.allocator import menus


def filled(
    spec: ModelSpec, layout: FileLayout, losses: Losses, formats: Formats, num_bytes: int
) -> Formats:
    """Return formats of at most `num_bytes` of file that lose no more than `formats`.

    Of all single matrices that change alone, the step that lowers the loss most goes first.
    """
    choices, chosen = menus(spec, layout), dict(formats)
    left = num_bytes - layout.file_bytes(chosen, spec)
    alone = _alone(spec)
    while True:
        best = (0.0, 0, "", "")
        for name in alone:
            now = chosen.get(name, spec.weights[name].format.name)
            sizes = {one.format: one.nbytes for one in choices[name]}
            for fmt, size in sizes.items():
                gain, more = losses[name, now] - losses[name, fmt], size - sizes[now]
                if more <= left and gain > best[0]:
                    best = (gain, more, name, fmt)
        gain, more, name, fmt = best
        if gain <= 0:
            own = {n: e.format.name for n, e in spec.weights.items()}
            return tuple(sorted((n, f) for n, f in chosen.items() if f != own[n]))
        chosen[name] = fmt
        left -= more


def _alone(spec: ModelSpec) -> list[str]:
    """Return the matrices that change their format alone: fused tensors hold none of them."""
    tables = [name for name in SENSITIVITY if name in spec.weights]
    units = ((prefix, unit) for prefix, branch in spec.branches for unit in branch.block.units)
    return tables + [prefix + unit[0] for prefix, unit in units if len(unit) == 1]
