"""Lowering a model to fused steps over named buffers."""

from dataclasses import dataclass
from typing import Any

from tonnage.core.layout import FLOAT_FORMATS
from tonnage.core.model_spec import AttentionSpec, LayerSpec, ModelSpec
from tonnage.core.plan import KvPlan, RopePlan, StepPlan
from tonnage.planner.layout.place import WeightPlacer

# Radians per position; pairs below it turn by less than one in 4,096.
STILL_FREQUENCY = 1 / 4096


@dataclass
class Lowering:
    """What the steps of one model refer to: placed weights, KV pools, buffer offsets by name."""

    spec: ModelSpec
    placed: WeightPlacer
    kv: KvPlan
    ropes: tuple[RopePlan, ...]
    buffers: dict[str, int]
    max_logit_rows: int
    concurrency: int

    def steps(self) -> tuple[StepPlan, ...]:
        """Return the whole forward pass."""
        spec = self.spec
        steps = [
            StepPlan("embed", {"table": "embed", "scale": spec.embed_scale, "x": self.buffers["x"]})
        ]
        steps += [self._rope_table(i) for i in range(len(self.ropes))]
        steps.append(self._norm("layers.0.attn_norm", self._qkv_names(0)))
        for i, layer in enumerate(spec.layers):
            steps += self._attention(i, layer)
            steps += self._mlp(i, layer)
        return (*steps, self._pool(), self._head())

    def _rope_table(self, index: int) -> StepPlan:
        rope = self.ropes[index]
        return StepPlan(
            "rope_table",
            {
                "frequencies": rope.offset,
                "pairs": len(rope.frequencies),
                "table": self.buffers[f"rope{index}"],
            },
        )

    def _qkv_names(self, i: int) -> list[str]:
        return [f"layers.{i}.{part}" for part in ("q", "k", "v")]

    def _acts(self, buffer: str, cols: int, consumers: list[str]) -> list[int]:
        """Return (codes, values, cols) of activations in the forms that their consumers read."""
        formats = {self.placed.format_of(name) for name in consumers}
        codes = self.buffers[buffer + "_codes"] if formats - FLOAT_FORMATS else -1
        values = self.buffers[buffer + "_values"] if formats & FLOAT_FORMATS else -1
        return [codes, values, cols]

    def _norm(
        self, weight: str, consumers: list[str], added: str = "", *, gather: bool = False
    ) -> StepPlan:
        return StepPlan(
            "norm",
            {
                "x": self.buffers["x"],
                "weight": self._vector(weight),
                "added": self.buffers["branch"] if added else -1,
                "added_weight": self._vector(added) if added else -1,
                "eps": self.spec.norm_eps,
                "out": self._acts("normed", self.spec.d_model, consumers),
                "gather": gather,
            },
        )

    def _vector(self, name: str) -> int:
        return self.placed.vectors[name].offset

    def _matmul(
        self, parts: list[list[Any]], source: list[int], out: int, stride: int, **extra: Any
    ) -> StepPlan:
        args = {"cap": 0.0, "accumulate": False, "gather": False, "out_rows": 0} | extra
        return StepPlan(
            "matmul", {"parts": parts, "input": source, "out": out, "out_stride": stride} | args
        )

    def _attention(self, i: int, layer: LayerSpec) -> list[StepPlan]:
        a = layer.attention
        prefix = f"layers.{i}."
        widths = [a.num_heads * a.k_dim, a.num_kv_heads * a.k_dim, a.num_kv_heads * a.v_dim]
        parts: list[list[Any]] = []
        column = 0
        for name, width in zip(self._qkv_names(i), widths, strict=True):
            parts.append([name, self._vector(name + "_bias") if a.bias else -1, column])
            column += width
        qkv = self.buffers["qkv"]
        rope = self.ropes[a.rope]
        kv = self.kv.layers[i]
        kv_args = [
            *(kv.offset, kv.page_stride, kv.num_heads, kv.k_dim, kv.v_dim), self.kv.format, kv.group
        ]  # fmt: skip
        out_dim = a.num_heads * a.v_dim
        attended = self.buffers["attended_values"]
        steps = [
            self._matmul(
                parts, self._acts("normed", self.spec.d_model, self._qkv_names(i)), qkv, column
            ),
            StepPlan(
                "rotate",
                {
                    "qkv": qkv,
                    "num_heads": a.num_heads,
                    "kv": kv_args,
                    "q_norm": self._vector(prefix + "q_norm") if a.qk_norm else -1,
                    "k_norm": self._vector(prefix + "k_norm") if a.qk_norm else -1,
                    "eps": self.spec.norm_eps,
                    "scale": a.scale,
                    "table": self.buffers[f"rope{a.rope}"],
                    "pairs": len(rope.frequencies),
                    "interleaved": self.spec.ropes[a.rope].style == "interleaved",
                    **self._still_bias(prefix, a, rope),
                },
            ),
            *self._narrow(i, column),
            StepPlan(
                "attend",
                {
                    "qkv": qkv,
                    "num_heads": a.num_heads,
                    "kv": kv_args,
                    "window": a.window,
                    "softcap": a.softcap,
                    "out": attended,
                },
            ),
        ]
        source = self._acts("attended", out_dim, [prefix + "o"])
        if source[0] >= 0:
            steps.append(StepPlan("quantize", {"x": attended, "out": [source[0], -1, out_dim]}))
        bias = self._vector(prefix + "o_bias") if a.out_bias else -1
        mlp_inputs = [prefix + "gate", prefix + "up"]
        return steps + self._branch(
            [prefix + "o", bias, 0], source, prefix + "mlp_norm", mlp_inputs,
            prefix + "post_attn_norm" if layer.post_norms else "",
        )  # fmt: skip

    def _narrow(self, i: int, qkv_cols: int) -> list[StepPlan]:
        """Behind the last keys and values, rows whose hidden state nobody reads are done."""
        if i + 1 < len(self.spec.layers):
            return []
        args = {"x": self.buffers["x"], "x_cols": self.spec.d_model}
        return [StepPlan("narrow", args | {"qkv": self.buffers["qkv"], "qkv_cols": qkv_cols})]

    def _still_bias(self, prefix: str, a: AttentionSpec, rope: RopePlan) -> dict[str, int]:
        """Return which bias int8 keys leave out: softmax must see it as it is, without norm or cap.

        The border is the same for every workload, as logits depend on tokens alone.
        """
        if self.kv.format != "int8" or not a.bias or a.qk_norm or a.softcap:
            return {"k_bias": -1, "still_from": 0}
        turning = sum(frequency >= STILL_FREQUENCY for frequency in rope.frequencies)
        return {"k_bias": self._vector(prefix + "k_bias"), "still_from": turning}

    def _mlp(self, i: int, layer: LayerSpec) -> list[StepPlan]:
        prefix = f"layers.{i}."
        inner = self._acts("inner", layer.mlp.hidden, [prefix + "down"])
        gated = StepPlan(
            "gated",
            {
                "gate": prefix + "gate",
                "up": prefix + "up",
                "input": self._acts("normed", self.spec.d_model, [prefix + "gate", prefix + "up"]),
                "out": inner,
                "gelu": layer.mlp.activation == "gelu_tanh",
            },
        )
        last = i + 1 == len(self.spec.layers)
        following = "final_norm" if last else f"layers.{i + 1}.attn_norm"
        consumers = [self._head_name()] if last else self._qkv_names(i + 1)
        post = prefix + "post_mlp_norm" if layer.post_norms else ""
        down = self._branch(
            [prefix + "down", -1, 0], inner, following, consumers, post, gather=last
        )
        return [gated, *down]

    def _branch(
        self, part: list[Any], source: list[int], following: str, consumers: list[str], post: str,
        *, gather: bool = False,
    ) -> list[StepPlan]:  # fmt: skip
        """Return the product that ends a branch, its way back into x, and the norm that follows."""
        target = self.buffers["branch"] if post else self.buffers["x"]
        product = self._matmul([part], source, target, self.spec.d_model, accumulate=not post)
        return [product, self._norm(following, consumers, post, gather=gather)]

    def _pool(self) -> StepPlan:
        """Return what adds up hidden states; it does again, for other rows, the norm before it."""
        last = len(self.spec.layers) - 1
        post = f"layers.{last}.post_mlp_norm" if self.spec.layers[last].post_norms else ""
        return StepPlan(
            "pool",
            {
                "x": self.buffers["x"],
                "weight": self._vector("final_norm"),
                "added": self.buffers["branch"] if post else -1,
                "added_weight": self._vector(post) if post else -1,
                "eps": self.spec.norm_eps,
                "cols": self.spec.d_model,
                "sums": self.buffers["pooled"],
                "slots": self.concurrency,
            },
        )

    def _head_name(self) -> str:
        return "embed" if self.spec.tied_head else "head"

    def _head(self) -> StepPlan:
        name = self._head_name()
        return self._matmul(
            [[name, -1, 0]],
            self._acts("normed", self.spec.d_model, [name]),
            self.buffers["logits"],
            self.spec.vocab_size,
            cap=self.spec.final_softcap,
            gather=True,
            out_rows=self.max_logit_rows,
        )
