"""Lowering a model to fused steps over named weights and buffers."""

from dataclasses import dataclass, replace

from tonnage.core.layout import FLOAT_FORMATS
from tonnage.core.model_spec import AttentionSpec, LayerSpec, ModelSpec
from tonnage.core.operands import Activations, Heads, ProductPart
from tonnage.core.plan import KvPlan, RopePlan
from tonnage.core.steps import (
    Attend,
    Embed,
    Gated,
    GatherLast,
    Matmul,
    Norm,
    PoolHidden,
    Quantize,
    RopeKvWrite,
    RopeTable,
    Step,
)
from tonnage.planner.layout.place import WeightPlacer

# Radians per position; pairs below it turn by less than one in 4,096.
LOW_FREQUENCY = 1 / 4096


@dataclass
class Lowering:
    """What the steps of one model refer to: formats of weights, KV pages, rotary embeddings."""

    spec: ModelSpec
    placed: WeightPlacer
    kv: KvPlan
    ropes: tuple[RopePlan, ...]
    max_logit_rows: int
    concurrency: int

    def steps(self) -> tuple[Step, ...]:
        """Return the whole forward pass."""
        spec = self.spec
        steps: list[Step] = [Embed("embed", spec.embed_scale, "x", spec.d_model)]
        for i, rope in enumerate(self.ropes):
            steps.append(RopeTable(i, len(rope.frequencies), f"rope{i}"))
        steps.append(self._norm("layers.0.attn_norm", self._qkv_names(0)))
        for i, layer in enumerate(spec.layers):
            steps += self._attention(i, layer)
            steps += self._mlp(i, layer)
        return (*steps, self._pool(), self._head())

    def _qkv_names(self, i: int) -> list[str]:
        return [f"layers.{i}.{part}" for part in ("q", "k", "v")]

    def _acts(self, buffer: str, cols: int, consumers: list[str]) -> Activations:
        """Return activations in the forms that their consumers read."""
        formats = {self.placed.format_of(name) for name in consumers}
        return Activations(
            buffer, cols, bool(formats - FLOAT_FORMATS), bool(formats & FLOAT_FORMATS)
        )

    def _norm(
        self, weight: str, consumers: list[str], added: str = "", *, gather: bool = False
    ) -> Norm:
        return Norm(
            x="x",
            weight=weight,
            added="branch" if added else None,
            added_weight=added or None,
            eps=self.spec.norm_eps,
            out=self._acts("normed", self.spec.d_model, consumers),
            gather=gather,
        )

    def _attention(self, i: int, layer: LayerSpec) -> list[Step]:
        a = layer.attention
        prefix = f"layers.{i}."
        heads = Heads(i, a.num_kv_heads, a.k_dim, a.v_dim)
        qkv_cols = heads.cols(a.num_heads)
        normed = self._acts("normed", self.spec.d_model, self._qkv_names(i))
        steps: list[Step] = [
            Matmul(self._qkv_parts(i, a), normed, "qkv", qkv_cols),
            self._rope_kv_write(prefix, a, heads),
            *self._gather_last(i, qkv_cols),
            Attend("qkv", a.num_heads, heads, a.window, a.softcap, "attended_values"),
        ]
        out_dim = a.num_heads * a.v_dim
        source = self._acts("attended", out_dim, [prefix + "o"])
        if source.codes:
            steps.append(Quantize("attended_values", replace(source, values=False)))
        part = ProductPart(prefix + "o", prefix + "o_bias" if a.out_bias else None, 0)
        mlp_inputs = [prefix + "gate", prefix + "up"]
        post = prefix + "post_attn_norm" if layer.post_norms else ""
        return steps + self._branch(part, source, prefix + "mlp_norm", mlp_inputs, post)

    def _qkv_parts(self, i: int, a: AttentionSpec) -> tuple[ProductPart, ...]:
        q_cols, k_cols = a.num_heads * a.k_dim, a.num_kv_heads * a.k_dim
        columns = (0, q_cols, q_cols + k_cols)
        return tuple(
            ProductPart(name, name + "_bias" if a.bias else None, column)
            for name, column in zip(self._qkv_names(i), columns, strict=True)
        )

    def _rope_kv_write(self, prefix: str, a: AttentionSpec, heads: Heads) -> RopeKvWrite:
        k_bias, low_from = self._low_frequency_bias(prefix, a)
        return RopeKvWrite(
            qkv="qkv",
            num_heads=a.num_heads,
            kv=heads,
            q_norm=prefix + "q_norm" if a.qk_norm else None,
            k_norm=prefix + "k_norm" if a.qk_norm else None,
            eps=self.spec.norm_eps,
            scale=a.scale,
            table=f"rope{a.rope}",
            pairs=len(self.ropes[a.rope].frequencies),
            interleaved=self.spec.ropes[a.rope].style == "interleaved",
            k_bias=k_bias,
            low_from=low_from,
        )

    def _gather_last(self, i: int, qkv_cols: int) -> list[Step]:
        """Behind the last keys and values, rows whose hidden state nobody reads are done."""
        if i + 1 < len(self.spec.layers):
            return []
        return [GatherLast((("x", self.spec.d_model), ("qkv", qkv_cols)))]

    def _low_frequency_bias(self, prefix: str, a: AttentionSpec) -> tuple[str | None, int]:
        """Return which bias int8 keys leave out, and from which pair on.

        Softmax must see it as it is, without norm or cap. The border is the same for every
        workload, as logits depend on tokens alone.
        """
        if self.kv.format != "int8" or not a.bias or a.qk_norm or a.softcap:
            return None, 0
        frequencies = self.ropes[a.rope].frequencies
        return prefix + "k_bias", sum(frequency >= LOW_FREQUENCY for frequency in frequencies)

    def _mlp(self, i: int, layer: LayerSpec) -> list[Step]:
        prefix = f"layers.{i}."
        inner = self._acts("inner", layer.mlp.hidden, [prefix + "down"])
        gate, up = prefix + "gate", prefix + "up"
        normed = self._acts("normed", self.spec.d_model, [gate, up])
        last = i + 1 == len(self.spec.layers)
        following = "final_norm" if last else f"layers.{i + 1}.attn_norm"
        consumers = [self._head_name()] if last else self._qkv_names(i + 1)
        post = prefix + "post_mlp_norm" if layer.post_norms else ""
        part = ProductPart(prefix + "down", None, 0)
        return [
            Gated(gate, up, normed, inner, layer.mlp.activation),
            *self._branch(part, inner, following, consumers, post, gather=last),
        ]

    def _branch(
        self, part: ProductPart, source: Activations, following: str, consumers: list[str],
        post: str, *, gather: bool = False,
    ) -> list[Step]:  # fmt: skip
        """Return the product that ends a branch, its way back into x, and the norm that follows."""
        target = "branch" if post else "x"
        product = Matmul((part,), source, target, self.spec.d_model, accumulate=not post)
        return [product, self._norm(following, consumers, post, gather=gather)]

    def _pool(self) -> PoolHidden:
        """Return what adds up hidden states; it does again, for other rows, the norm before it."""
        last = len(self.spec.layers) - 1
        post = f"layers.{last}.post_mlp_norm" if self.spec.layers[last].post_norms else None
        return PoolHidden(
            x="x",
            weight="final_norm",
            added="branch" if post else None,
            added_weight=post,
            eps=self.spec.norm_eps,
            cols=self.spec.d_model,
            sums="pooled",
            slots=self.concurrency,
        )

    def _head_name(self) -> str:
        return "embed" if self.spec.tied_head else "head"

    def _head(self) -> Matmul:
        name = self._head_name()
        return Matmul(
            parts=(ProductPart(name, None, 0),),
            input=self._acts("normed", self.spec.d_model, [name]),
            out="logits",
            out_cols=self.spec.vocab_size,
            cap=self.spec.final_softcap,
            gather=True,
            out_rows=self.max_logit_rows,
        )
