"""Attention with grouped heads (Ainslie et al. 2023) over pages of keys and values."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from tonnage.core.block import Block, BlockContext, PagedState, Shape
from tonnage.core.kv_format import BY_NAME
from tonnage.core.operands import Heads, ProductPart
from tonnage.core.record import record
from tonnage.core.steps import Attend, Matmul, QkNorm, Quantize, RopeKvWrite, Step

QkNormKind = Literal["none", "head", "all"]

# Radians per position; pairs below it turn by less than one in 4,096.
LOW_FREQUENCY = 1 / 4096


@record
class Attention(Block):
    """Grouped-query attention; K and V may have different sizes per head.

    Tensors: q, k, v, o; q_bias, k_bias, v_bias and o_bias, those of them in `biases`; q_norm and
    k_norm, RMS norms of each head or of all heads together, by `qk_norm`. scale multiplies q·k.
    window: how many last positions (own one included) are seen, 0 for all. softcap:
    cap·tanh(score/cap), 0 for none. rope: index into ModelSpec.ropes, None for no rotation.
    temperature: of queries, growing every so many tokens (`RopeKvWrite`).
    """

    num_heads: int
    num_kv_heads: int
    k_dim: int
    v_dim: int
    scale: float
    rope: int | None = 0
    window: int = 0
    softcap: float = 0.0
    biases: tuple[str, ...] = ()
    qk_norm: QkNormKind = "none"
    temperature: float = 0.0
    temperature_tokens: int = 0

    inputs: ClassVar[tuple[str, ...]] = ("q", "k", "v")
    units: ClassVar[tuple[tuple[str, ...], ...]] = (("q", "k", "v"), ("o",))
    sensitivity: ClassVar[Mapping[str, float]] = {"q": 1.46, "k": 1.46, "v": 1.46, "o": 1.41}

    def tensors(self, d_model: int) -> dict[str, Shape]:
        """Return role -> shape."""
        shapes: dict[str, Shape] = {}
        for role, rows in zip(self.inputs, self._widths, strict=True):
            shapes[role] = (rows, d_model)
            if role in self.biases:
                shapes[role + "_bias"] = (rows,)
        if self.qk_norm != "none":
            q_rows, k_rows, _ = self._widths if self.qk_norm == "all" else (self.k_dim,) * 3
            shapes |= {"q_norm": (q_rows,), "k_norm": (k_rows,)}
        shapes["o"] = (d_model, self.num_heads * self.v_dim)
        return {**shapes, "o_bias": (d_model,)} if "o" in self.biases else shapes

    @property
    def state(self) -> PagedState:
        """Keys and values of every token."""
        return PagedState(self.num_kv_heads, self.k_dim, self.v_dim, self.window)

    def lower(self, at: BlockContext) -> list[Step]:
        """Return the products of q, k and v, their way into pages, attention and its product."""
        heads = Heads(at.state_index, self.num_kv_heads, self.k_dim, self.v_dim)
        cols = heads.cols(self.num_heads)
        normed = at.activations("normed", at.d_model, self.inputs)
        attended = at.activations("attended", self.num_heads * self.v_dim, ("o",))
        steps: list[Step] = [
            Matmul(self._qkv_parts(at), normed, "qkv", cols),
            *self._norms_of_all_heads(at, heads),
            self._rope_kv_write(at, heads),
            *at.gather_last(("qkv", cols)),
            Attend("qkv", self.num_heads, heads, self.window, self.softcap, "attended_values"),
        ]
        if attended.codes:
            steps.append(Quantize("attended_values", replace(attended, values=False)))
        return [*steps, at.output(ProductPart(at.name("o"), self._bias(at, "o"), 0), attended)]

    @property
    def _widths(self) -> tuple[int, int, int]:
        k_rows, v_rows = self.num_kv_heads * self.k_dim, self.num_kv_heads * self.v_dim
        return self.num_heads * self.k_dim, k_rows, v_rows

    def _qkv_parts(self, at: BlockContext) -> tuple[ProductPart, ...]:
        parts, column = [], 0
        for role, width in zip(self.inputs, self._widths, strict=True):
            parts.append(ProductPart(at.name(role), self._bias(at, role), column))
            column += width
        return tuple(parts)

    def _bias(self, at: BlockContext, role: str) -> str | None:
        return at.name(role + "_bias") if role in self.biases else None

    def _norms_of_all_heads(self, at: BlockContext, heads: Heads) -> list[Step]:
        if self.qk_norm != "all":
            return []
        q_norm, k_norm = at.name("q_norm"), at.name("k_norm")
        return [QkNorm("qkv", self.num_heads, heads, q_norm, k_norm, at.norm_eps)]

    def _rope_kv_write(self, at: BlockContext, heads: Heads) -> RopeKvWrite:
        rope = None if self.rope is None else at.rope(self.rope)
        k_bias, low_from = self._low_frequency_bias(at)
        return RopeKvWrite(
            qkv="qkv",
            num_heads=self.num_heads,
            kv=heads,
            q_norm=at.name("q_norm") if self.qk_norm == "head" else None,
            k_norm=at.name("k_norm") if self.qk_norm == "head" else None,
            eps=at.norm_eps,
            scale=self.scale,
            table=None if rope is None else f"rope{self.rope}",
            pairs=0 if rope is None else rope.dim // 2,
            interleaved=rope is not None and rope.style == "interleaved",
            k_bias=k_bias,
            low_from=low_from,
            temperature=self.temperature,
            temperature_tokens=self.temperature_tokens,
        )

    def _low_frequency_bias(self, at: BlockContext) -> tuple[str | None, int]:
        """Return which bias codes of keys leave out, and from which pair on.

        Softmax must see it as it is, without norm or cap. The border is the same for every
        workload, as logits depend on tokens alone.
        """
        seen = "k" in self.biases and self.qk_norm == "none" and not self.softcap
        if not BY_NAME[at.kv_format].coded or not seen:
            return None, 0
        frequencies = () if self.rope is None else at.rope(self.rope).inverse_frequencies()
        fast = [i for i, frequency in enumerate(frequencies) if frequency >= LOW_FREQUENCY]
        return at.name("k_bias"), fast[-1] + 1 if fast else 0
