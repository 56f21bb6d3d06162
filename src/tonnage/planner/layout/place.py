"""Placing weights in execution order, KV pages after them, scratch last."""

from dataclasses import dataclass, field

from tonnage.core.block_format import BY_NAME
from tonnage.core.checkpoint import TensorEntry
from tonnage.core.layout import PAGE_TOKENS, PANEL_ROWS, kv_head_bytes, panel_bytes, round_up
from tonnage.core.model_spec import LayerSpec, ModelSpec
from tonnage.core.plan import (
    KvFormat,
    KvGroupPlan,
    KvLayerPlan,
    KvPlan,
    MatrixPlan,
    RopePlan,
    Source,
    VectorPlan,
)

LINE_BYTES = 64
HUGE_PAGE_BYTES = 2 << 20


def source_of(entry: TensorEntry) -> Source:
    """Return where the tensor lies, as the plan states it."""
    return Source(entry.file, entry.offset, entry.format.name)


@dataclass
class Cursor:
    """The next free byte of the arena while it is laid out."""

    offset: int = 0

    def take(self, num_bytes: int, align: int = LINE_BYTES) -> int:
        """Return the offset of `num_bytes` fresh bytes."""
        start = round_up(self.offset, align)
        self.offset = start + num_bytes
        return start


@dataclass
class WeightPlacer:
    """Lays weights one after another; `formats` maps a canonical name to the format it becomes."""

    spec: ModelSpec
    formats: dict[str, str]
    cursor: Cursor
    matrices: dict[str, MatrixPlan] = field(default_factory=dict)
    vectors: dict[str, VectorPlan] = field(default_factory=dict)

    def format_of(self, name: str) -> str:
        """Return the format that a matrix has in the arena."""
        return self.formats.get(name, self.spec.weights[name].format.name)

    def matrix(self, name: str) -> None:
        """Place one matrix, panel after panel."""
        panel = self._panel_bytes(name)
        panels = self._panels(name)
        self._add(name, self.cursor.take(panel * panels), panel, panel * panels)

    def interleaved(self, first: str, second: str) -> None:
        """Place two matrices of equal rows with alternating panels: one sweep reads both."""
        a, b = self._panel_bytes(first), self._panel_bytes(second)
        panels = self._panels(first)
        base = self.cursor.take((a + b) * panels)
        self._add(first, base, a + b, a * panels)
        self._add(second, base + a, a + b, b * panels)

    def vector(self, name: str, add: float = 0.0) -> None:
        """Place a vector as float32, padded to whole panels."""
        entry = self.spec.weights[name]
        count = entry.shape[0]
        nbytes = 4 * round_up(count, PANEL_ROWS)
        offset = self.cursor.take(nbytes)
        self.vectors[name] = VectorPlan(name, count, offset, nbytes, add, source_of(entry))

    def _panel_bytes(self, name: str) -> int:
        return panel_bytes(BY_NAME[self.format_of(name)], self.spec.weights[name].shape[1])

    def _panels(self, name: str) -> int:
        return round_up(self.spec.weights[name].shape[0], PANEL_ROWS) // PANEL_ROWS

    def _add(self, name: str, offset: int, stride: int, nbytes: int) -> None:
        entry = self.spec.weights[name]
        rows, cols = entry.shape
        self.matrices[name] = MatrixPlan(
            name, self.format_of(name), rows, cols, offset, stride, nbytes, source_of(entry)
        )


def place_weights(placer: WeightPlacer) -> None:
    """Place every weight in the order in which a token reads it."""
    spec = placer.spec
    if not spec.tied_head:
        placer.matrix("embed")
    if "rope_factors" in spec.weights:
        placer.vector("rope_factors")
    for i, layer in enumerate(spec.layers):
        _place_layer(placer, f"layers.{i}.", layer)
    placer.vector("final_norm", spec.norm_offset)
    placer.matrix("embed" if spec.tied_head else "head")


def _place_layer(placer: WeightPlacer, prefix: str, layer: LayerSpec) -> None:
    add = placer.spec.norm_offset
    placer.vector(prefix + "attn_norm", add)
    for part in ("q", "k", "v"):
        placer.matrix(prefix + part)
        if layer.attention.bias:
            placer.vector(f"{prefix}{part}_bias")
    if layer.attention.qk_norm:
        placer.vector(prefix + "q_norm", add)
        placer.vector(prefix + "k_norm", add)
    placer.matrix(prefix + "o")
    if layer.attention.out_bias:
        placer.vector(prefix + "o_bias")
    if layer.post_norms:
        placer.vector(prefix + "post_attn_norm", add)
    placer.vector(prefix + "mlp_norm", add)
    placer.interleaved(prefix + "gate", prefix + "up")
    placer.matrix(prefix + "down")
    if layer.post_norms:
        placer.vector(prefix + "post_mlp_norm", add)


def place_ropes(spec: ModelSpec, cursor: Cursor) -> tuple[RopePlan, ...]:
    """Place the angles of every rotary embedding."""
    ropes = []
    for i, rope in enumerate(spec.ropes):
        frequencies = rope.inverse_frequencies()
        factors = "rope_factors" if i == 0 and "rope_factors" in spec.weights else None
        ropes.append(RopePlan(frequencies, cursor.take(4 * len(frequencies)), factors))
    return tuple(ropes)


@dataclass(frozen=True, slots=True)
class KvNeed:
    """Sequences at once, positions of each, rows that a step may add to one, the pages' format.

    shared_pages: beside those of one full context, for all other sequences; None: enough for full
    contexts of all.
    """

    concurrency: int
    context_tokens: int
    max_rows: int
    format: KvFormat
    shared_pages: int | None = None

    def pool_pages(self, window: int) -> int:
        """Return the pages of all sequences; of a window no more than they have positions in."""
        full = self.concurrency * self.sequence_pages(window)
        if self.shared_pages is None:
            return full
        return min(full, self.sequence_pages(0) + self.shared_pages)

    def sequence_pages(self, window: int) -> int:
        """Return the pages that a sequence holds at most; window: 0 for layers that see all.

        Before a step the last `window` positions stay, and its rows follow; neither begins with a
        page.
        """
        whole = round_up(self.context_tokens, PAGE_TOKENS) // PAGE_TOKENS
        if not window:
            return whole
        return min(whole, round_up(window + self.max_rows, PAGE_TOKENS) // PAGE_TOKENS + 1)

    def kept(self, window: int) -> int:
        """Return the window, or 0 where it saves no page."""
        return window if self.sequence_pages(window) < self.sequence_pages(0) else 0


def place_kv(spec: ModelSpec, need: KvNeed, cursor: Cursor) -> KvPlan:
    """Place a pool of pages for each window, the one of layers that see everything first.

    A page holds all layers of its group, so that memory is touched as tokens come. The first group
    may have no layer; its pages then take no bytes.
    """
    attentions = [layer.attention for layer in spec.layers]
    windows = [need.kept(a.window) for a in attentions]
    parts = [kv_head_bytes(a.k_dim, a.v_dim, need.format) * a.num_kv_heads for a in attentions]
    groups, layers = [], dict[int, KvLayerPlan]()
    for number, window in enumerate(sorted({0, *windows})):
        members = [i for i, own in enumerate(windows) if own == window]
        stride = sum(parts[i] for i in members)
        num_pages = need.pool_pages(window)
        offset = cursor.take(stride * num_pages)
        groups.append(KvGroupPlan(window, num_pages, stride, offset))
        for i in members:
            a = attentions[i]
            layers[i] = KvLayerPlan(number, offset, stride, a.num_kv_heads, a.k_dim, a.v_dim)
            offset += parts[i]
    nbytes = sum(group.nbytes for group in groups)
    in_order = tuple(layers[i] for i in range(len(attentions)))
    return KvPlan(need.format, PAGE_TOKENS, nbytes, tuple(groups), in_order)
