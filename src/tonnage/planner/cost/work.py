"""What a step of a plan has to do, as sums: bytes, multiply-adds, elements."""

from collections import Counter
from itertools import pairwise
from typing import assert_never

from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.core.plan import MatrixPlan, Plan
from tonnage.core.rates import GATED, rope_kv_write_kind
from tonnage.core.record import record
from tonnage.core.steps import (
    Attend,
    Embed,
    Gated,
    GatherLast,
    Matmul,
    Norm,
    PoolHidden,
    QkNorm,
    Quantize,
    RopeKvWrite,
    RopeTable,
    Step,
)


@record
class Products:
    """Matrices of one format that a step multiplies with: their bytes and weights.

    These count the panels of the busiest thread as if all had as many, as do the elements of a row
    that are written, of products and of gated ones. late: behind the last layer's keys and values,
    where only rows with logits are left.
    """

    format: str
    late: bool
    read_bytes: float
    weights: float
    written: float
    gated: float


@record
class Attention:
    """`count` layers of one shape; position_bytes: K and V of one position of all heads.

    pass_queries: queries that share a pass over them, of the heads of one key and rows of a tile.
    late: the last layer, where only rows with logits attend.
    """

    count: int
    num_heads: int
    num_kv_heads: int
    head_elements: int
    position_bytes: float
    window: int
    pass_queries: int
    late: bool

    def seen(self, position: int) -> int:
        """Return how many positions the token at `position` attends, its own included."""
        return min(position + 1, self.window or position + 1)

    @property
    def tile_rows(self) -> int:
        """How many rows of a sequence share a pass, at most."""
        return self.pass_queries // (self.num_heads // self.num_kv_heads)

    def passes(self, position: int, rows: int) -> tuple[int, int]:
        """Return what `rows` from `position` on go over, as sums: positions scored, and of pages.

        Rows in a tile go over what its last one sees, of the last page 16, 32 or 64 positions.
        """
        tile_rows = self.tile_rows
        end, scored, paged = position + rows, 0, 0
        for first in range(position, end, tile_rows):
            after = min(first + tile_rows, end)
            begin = max(0, first - self.window + 1) if self.window else 0
            pages, rest = divmod(after - begin // PAGE_TOKENS * PAGE_TOKENS, PAGE_TOKENS)
            last = next((size for size in (16, 32) if rest <= size), PAGE_TOKENS) if rest else 0
            scored += (after - first) * (pages * PAGE_TOKENS + last)
            paged += (after - first) * (pages + (rest > 0)) * PAGE_TOKENS
        return scored, paged


@record
class Work:
    """What the steps of a plan do for any number of rows.

    num_products: operations that multiply; activation: of the gated ones. elements: (operation, how
    many of it, elements per row of all of them together, elements per row with logits), those that
    products write left out. vector_bytes: norms and biases, which every step reads.
    """

    products: tuple[Products, ...]
    num_products: int
    activation: str
    vector_bytes: int
    elements: tuple[tuple[str, int, float, float], ...]
    attention: tuple[Attention, ...]
    kv_format: str
    vocab_size: int
    threads: int
    max_rows: int
    context_tokens: int

    @property
    def macs_per_row(self) -> float:
        """Multiply-adds of the matrices that every row runs through."""
        return sum(p.weights for p in self.products if not p.late)

    @property
    def late_macs_per_row(self) -> float:
        """Multiply-adds that a row with logits takes beside them, the head's included."""
        return sum(p.weights for p in self.products if p.late)

    @property
    def read_bytes(self) -> float:
        """Bytes of all matrices, which a step with logits reads once."""
        return sum(p.read_bytes for p in self.products)

    def kv_bytes(self, position: int) -> float:
        """Return the bytes of keys and values that the token at `position` reads."""
        return sum(a.count * a.position_bytes * a.seen(position) for a in self.attention)

    def attention_macs(self, position: int) -> int:
        """Return the multiply-adds of scores and of values for the token at `position`."""
        return sum(
            a.count * a.num_heads * a.head_elements * a.seen(position) for a in self.attention
        )


def work_of(plan: Plan) -> Work:
    """Return the sums of `plan`."""
    matrices = {matrix.name: matrix for matrix in plan.matrices}
    sums: dict[tuple[str, bool], list[float]] = {}
    elements: Counter[tuple[str, bool]] = Counter()
    counts: Counter[str] = Counter()
    late = False
    for step in plan.steps:
        late = late or isinstance(step, GatherLast)
        name = _kind(step, plan.kv.format)
        if name is None:
            continue
        counts[name] += 1
        elements[name, late] += step.elements
        _add_products(sums, step, matrices, plan, late=late)
    return Work(
        products=tuple(Products(*key, *each) for key, each in sorted(sums.items())),
        num_products=sum(counts[name] for name in ("matmul", *GATED)),
        activation=next((name for name in GATED if counts[name]), GATED[0]),
        vector_bytes=sum(vector.nbytes for vector in plan.vectors),
        elements=tuple(
            (op, counts[op], float(elements[op, False]), float(elements[op, True]))
            for op in sorted(counts)
        ),
        attention=_attention(plan),
        kv_format=plan.kv.format,
        vocab_size=plan.vocab_size,
        threads=plan.threads,
        max_rows=plan.max_rows,
        context_tokens=plan.context_tokens,
    )


def _add_products(
    sums: dict[tuple[str, bool], list[float]],
    step: Step,
    matrices: dict[str, MatrixPlan],
    plan: Plan,
    *,
    late: bool,
) -> None:
    parts = [matrices[name] for name in step.weights]
    if not parts:
        return
    gated = isinstance(step, Gated)
    # Gate and up are read panel by panel in turn, and write one element together.
    counts = [-(-part.rows // plan.panel_rows) for part in parts]
    panels = counts[0] if gated else sum(counts)
    slack = -(-panels // plan.threads) * plan.threads / panels
    for part, count in zip(parts, counts, strict=True):
        each = sums.setdefault((part.format, late), [0.0] * 4)
        each[0] += part.nbytes * slack
        each[1] += count * plan.panel_rows * part.cols * slack
        share = (0, part.rows / len(parts)) if gated else (part.rows, 0)
        each[2] += share[0] * slack
        each[3] += share[1] * slack


def _kind(step: Step, kv_format: str) -> str | None:
    """Return what the rate of the operation is kept under; None for one that takes next to nothing.

    Kinds of an operation that take different times have rates of their own.
    """
    match step:
        case Embed() | RopeTable() | Matmul() | Attend() | Quantize():
            return step.op
        case Gated():
            return GATED[step.activation != "silu"]
        case Norm():
            return "norm" if step.added is None else "norm added"
        case QkNorm():
            return "norm"
        case RopeKvWrite():
            return rope_kv_write_kind(kv_format, normed=step.q_norm is not None)
        case GatherLast() | PoolHidden():
            return None
        case _:
            assert_never(step)


def _attention(plan: Plan) -> tuple[Attention, ...]:
    layers: Counter[tuple[int, int, int, int, bool]] = Counter()
    late = False
    for step in plan.steps:
        late = late or isinstance(step, GatherLast)
        if isinstance(step, Attend):
            kv = step.kv
            shape = (step.num_heads, kv.num_kv_heads, kv.k_dim + kv.v_dim, step.window, late)
            layers[shape] += 1
    elements = sum(n * kv_heads * head for (_, kv_heads, head, *_), n in layers.items())
    # From the plan's own bytes, so that the format of the pages does not matter here.
    strides = sum(group.page_stride for group in plan.kv.groups)
    element_bytes = strides / (plan.kv.page_tokens * elements)
    return tuple(
        Attention(
            n,
            heads,
            kv_heads,
            head,
            element_bytes * kv_heads * head,
            window,
            plan.pass_queries,
            late,
        )
        for (heads, kv_heads, head, window, late), n in layers.items()
    )


def attend_passes(a: Attention, tiles: int, threads: int) -> list[Counter[int]]:
    """Return how many passes of how many heads each thread makes over `tiles` tiles of rows.

    Units are (head, tile), tiles fastest, and threads take even ranges of them: a range that begins
    or ends within the heads of one key splits their passes.
    """
    group, units = a.num_heads // a.num_kv_heads, a.num_heads * tiles
    shares = []
    for index in range(threads):
        low, below = divmod(units * index // threads, tiles)
        high, above = divmod(units * (index + 1) // threads, tiles)
        passes: Counter[int] = Counter()
        # Tiles before `below` begin a head later, those before `above` end one later.
        edges = sorted({0, below, above, tiles})
        for first, after in pairwise(edges):
            begin, end = low + (first < below), high + (first < above)
            while begin < end:
                stop = min(end, (begin // group + 1) * group)
                passes[stop - begin] += after - first
                begin = stop
        shares.append(passes)
    return shares
