"""What each step of a plan reads and writes, as byte ranges."""

from collections.abc import Iterator
from dataclasses import dataclass

from tonnage.core.block_format import BY_NAME
from tonnage.core.layout import PAGE_TOKENS, acts_bytes, panel_bytes
from tonnage.core.plan import Plan, StepPlan

Range = tuple[int, int]  # begin, end


@dataclass(frozen=True)
class Access:
    """The bytes that a step reads and writes; what it updates in place is in both."""

    op: str
    reads: tuple[Range, ...]
    writes: tuple[Range, ...]


def accesses(plan: Plan) -> list[Access]:
    """Return the accesses of all steps to scratch."""
    return [_access(step, plan.max_rows, plan) for step in plan.steps]


def _floats(offset: int, count: int) -> Range:
    return (offset, offset + 4 * count)


def _acts(args: list[int], rows: int) -> tuple[Range, ...]:
    codes, values, cols = args
    forms = []
    if codes >= 0:
        forms.append((codes, codes + acts_bytes(rows, cols)))
    if values >= 0:
        forms.append(_floats(values, rows * cols))
    return tuple(forms)


def _qkv(args: dict[str, object], rows: int) -> Range:
    _, _, heads, k_dim, v_dim, _, _ = args["kv"]
    cols = (args["num_heads"] + heads) * k_dim + heads * v_dim
    return _floats(args["qkv"], rows * cols)


def _access(step: StepPlan, rows: int, plan: Plan) -> Access:
    args = step.args
    if step.op == "embed":
        reads, writes = (), (_floats(args["x"], rows * plan.d_model),)
    elif step.op == "rope_table":
        reads, writes = (), (_floats(args["table"], rows * 2 * args["pairs"]),)
    elif step.op == "norm":
        x = _floats(args["x"], rows * plan.d_model)
        added = args["added"] >= 0
        reads = (x, _floats(args["added"], rows * plan.d_model)) if added else (x,)
        writes = (*_acts(args["out"], rows), *([x] if added else []))
    elif step.op == "matmul":
        out = _floats(args["out"], (args["out_rows"] or rows) * args["out_stride"])
        reads = (*_acts(args["input"], rows), *([out] if args["accumulate"] else []))
        writes = (out,)
    elif step.op == "rotate":
        reads = (_qkv(args, rows), _floats(args["table"], rows * 2 * args["pairs"]))
        writes = (reads[0],)
    elif step.op == "narrow":
        x, qkv = ((args[name], rows * args[f"{name}_cols"]) for name in ("x", "qkv"))
        reads = writes = (_floats(*x), _floats(*qkv))
    elif step.op == "attend":
        reads = (_qkv(args, rows),)
        writes = (_floats(args["out"], rows * args["num_heads"] * args["kv"][4]),)
    elif step.op == "gated":
        reads, writes = _acts(args["input"], rows), _acts(args["out"], rows)
    elif step.op == "pool":
        size = rows * plan.d_model
        added = [_floats(args["added"], size)] if args["added"] >= 0 else []
        reads = (_floats(args["x"], size), *added)
        writes = (_floats(args["sums"], 2 * args["slots"] * plan.d_model),)
    else:
        assert step.op == "quantize"
        reads, writes = (_floats(args["x"], rows * args["out"][2]),), _acts(args["out"], rows)
    return Access(step.op, reads, writes)


def permanent(plan: Plan) -> Iterator[tuple[str, Range]]:
    """Yield the bytes of everything that stays: panels, vectors, angles, pages of each layer."""
    for matrix in plan.matrices:
        size = panel_bytes(BY_NAME[matrix.format], matrix.cols)
        for panel in range(-(-matrix.rows // 32)):
            begin = matrix.offset + panel * matrix.panel_stride
            yield matrix.name, (begin, begin + size)
    for vector in plan.vectors:
        yield vector.name, (vector.offset, vector.offset + vector.nbytes)
    for rope in plan.ropes:
        yield "angles", _floats(rope.offset, len(rope.frequencies))
    for layer in plan.kv.layers:
        elements = layer.k_dim + -(-layer.v_dim // 16) * 16
        per_position = elements + 2 * 2 if plan.kv.format == "int8" else 2 * elements
        size = PAGE_TOKENS * per_position * layer.num_heads
        for page in range(plan.kv.groups[layer.group].num_pages):
            begin = layer.offset + page * layer.page_stride
            yield "pages", (begin, begin + size)
