"""Each operation of `tonnage.core.steps` on whole arrays of float64 rows."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np

from tonnage.backends.protocol import PooledRows, Span
from tonnage.backends.reference.pages import Pages
from tonnage.backends.reference.weights import Array
from tonnage.core.operands import Activations
from tonnage.core.plan import Plan
from tonnage.core.steps import (
    Activation,
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


@dataclass
class Operations:
    """One step of a runtime: its rows, and the buffers as they fill."""

    plan: Plan
    weights: Mapping[str, Array]
    pages: Pages
    tokens: Sequence[int]
    spans: Sequence[Span]
    logit_rows: Sequence[int]
    pooled: Sequence[PooledRows]
    buffers: dict[str, Array] = field(default_factory=dict)
    sums: Array = field(default_factory=lambda: np.zeros((0, 0)))

    def run(self, step: Step) -> None:
        """Run one operation."""
        match step:
            case Embed():
                self._embed(step)
            case RopeTable():
                self._rope_table(step)
            case Norm():
                self._norm(step)
            case Matmul():
                self._matmul(step)
            case Gated():
                self._gated(step)
            case QkNorm():
                self._qk_norm(step)
            case RopeKvWrite():
                self._rope_kv_write(step)
            case GatherLast():
                pass  # Rows that nobody reads are left out where rows with logits are gathered.
            case Attend():
                self._attend(step)
            case Quantize():
                self._put(step.out, self.buffers[step.x])
            case PoolHidden():
                self._pool_hidden(step)
            case _:
                assert_never(step)

    def rows(self) -> Iterator[tuple[int, Span, int]]:
        """Yield (row, its span, its position) of all rows."""
        row = 0
        for span in self.spans:
            for i in range(span.num_rows):
                yield row, span, span.position + i
                row += 1

    def _put(self, acts: Activations, values: Array) -> None:
        for name in acts.names:
            self.buffers[name] = values

    def _get(self, acts: Activations) -> Array:
        return self.buffers[acts.names[0]]

    def _vector(self, name: str | None) -> Array | float:
        return 0.0 if name is None else self.weights[name]

    def _embed(self, step: Embed) -> None:
        x = self.weights[step.table][list(self.tokens)] * step.scale
        if step.positions is not None:
            x = x + self.weights[step.positions][[position for _, _, position in self.rows()]]
        self.buffers[step.x] = x

    def _rope_table(self, step: RopeTable) -> None:
        rope = self.plan.ropes[step.rope]
        frequencies = np.array(rope.frequencies)
        if rope.factors is not None:
            frequencies = frequencies / self.weights[rope.factors]
        positions = np.array([position for _, _, position in self.rows()])
        angles = positions[:, None] * frequencies
        self.buffers[step.table] = (
            np.stack([np.cos(angles), np.sin(angles)]) * rope.attention_factor
        )

    def _norm(self, step: Norm) -> None:
        rows = list(self.logit_rows) if step.gather else slice(None)
        x = self.buffers[step.x][rows]
        if step.added is not None:
            branch = self.buffers[step.added][rows]
            x = x + rms_norm(branch, self._vector(step.added_weight), step.eps)
            self.buffers[step.x][rows] = x
        self._put(step.out, x if step.weight is None else self._normed(step, x))

    def _normed(self, step: Norm | PoolHidden, x: Array) -> Array:
        if step.centred:
            x = x - x.mean(axis=-1, keepdims=True)  # The spread around it is that of LayerNorm.
        return rms_norm(x, self._vector(step.weight), step.eps) + self._vector(step.bias)

    def _matmul(self, step: Matmul) -> None:
        source = self._get(step.input)
        out = np.zeros((len(source), step.out_cols))
        for part in step.parts:
            product = source @ self.weights[part.weight].T + self._vector(part.bias)
            out[:, part.column : part.column + product.shape[1]] = product
        out *= step.scale
        out = step.cap * np.tanh(out / step.cap) if step.cap else out
        self.buffers[step.out] = self.buffers[step.out] + out if step.accumulate else out

    def _gated(self, step: Gated) -> None:
        source = self._get(step.input)
        gate = source @ self.weights[step.gate].T + self._vector(step.gate_bias)
        out = activated(gate, step.activation)
        if step.up is not None:
            out = out * (source @ self.weights[step.up].T + self._vector(step.up_bias))
        self._put(step.out, out)

    def _qk_norm(self, step: QkNorm) -> None:
        qkv, begin = self.buffers[step.qkv], 0
        for heads, weight in ((step.num_heads, step.q_norm), (step.kv.num_kv_heads, step.k_norm)):
            end = begin + heads * step.kv.k_dim
            qkv[:, begin:end] = rms_norm(qkv[:, begin:end], self._vector(weight), step.eps)
            begin = end

    def _rope_kv_write(self, step: RopeKvWrite) -> None:
        kv, qkv = step.kv, self.buffers[step.qkv]
        q_cols, k_cols = step.num_heads * kv.k_dim, kv.num_kv_heads * kv.k_dim
        q = qkv[:, :q_cols].reshape(-1, step.num_heads, kv.k_dim)
        k = qkv[:, q_cols : q_cols + k_cols].reshape(-1, kv.num_kv_heads, kv.k_dim)
        v = qkv[:, q_cols + k_cols :].reshape(-1, kv.num_kv_heads, kv.v_dim)
        if step.q_norm is not None:
            q = rms_norm(q, self._vector(step.q_norm), step.eps)
        if step.k_norm is not None:
            k = rms_norm(k, self._vector(step.k_norm), step.eps)
        if step.table is not None:
            table = self.buffers[step.table]
            q, k = (rotated(x, table, interleaved=step.interleaved) for x in (q, k))
        q = q * step.scale
        if step.temperature:
            positions = np.array([position for _, _, position in self.rows()])
            far = np.log(1 + positions // step.temperature_tokens)
            q = q * (1 + step.temperature * far)[:, None, None]
        self.buffers[step.qkv][:, :q_cols] = q.reshape(len(qkv), q_cols)
        for row, span, position in self.rows():
            pair = np.concatenate([k[row], v[row]], axis=1)
            self.pages.write(kv.layer, span.pages, position, pair)

    def _attend(self, step: Attend) -> None:
        kv, group = step.kv, step.num_heads // step.kv.num_kv_heads
        out = np.zeros((len(self.tokens), step.num_heads, kv.v_dim))
        queries = self.buffers[step.qkv][:, : step.num_heads * kv.k_dim]
        queries = queries.reshape(-1, step.num_heads, kv.k_dim)
        for row, span, position in self.rows():
            first = max(0, position - step.window + 1) if step.window else 0
            seen = self.pages.read(kv.layer, span.pages, first, position + 1)
            for head in range(step.num_heads):
                keys, values = np.split(seen[head // group], [kv.k_dim], axis=1)
                scores = keys @ queries[row, head]
                scores = step.softcap * np.tanh(scores / step.softcap) if step.softcap else scores
                shares = np.exp(scores - scores.max())
                out[row, head] = shares @ values / shares.sum()
        self.buffers[step.out] = out.reshape(len(out), -1)

    def _pool_hidden(self, step: PoolHidden) -> None:
        for one in self.pooled:
            rows = slice(one.first_row, one.first_row + one.num_rows)
            x = self.buffers[step.x][rows]
            if step.added is not None:
                branch = self.buffers[step.added][rows]
                x = x + rms_norm(branch, self._vector(step.added_weight), step.eps)
            total = self._normed(step, x).sum(axis=0)
            self.sums[one.slot] = total + (0.0 if one.begins else self.sums[one.slot])


def rms_norm(x: Array, weight: Array | float, eps: float) -> Array:
    """Return x over its root mean square along the last axis, times the weight."""
    normed: Array = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight
    return normed


def activated(x: Array, activation: Activation) -> Array:
    """Return silu(x), or GELU (Hendrycks & Gimpel 2016), itself or its tanh approximation."""
    if activation == "silu":
        silu: Array = x * 0.5 * (1 + np.tanh(x / 2))
        return silu
    if activation == "gelu":
        return 0.5 * x * (1 + _erf(x / np.sqrt(2)))
    if activation == "relu2":
        squared: Array = np.maximum(x, 0) ** 2
        return squared
    approximation: Array = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return approximation


def _erf(x: Array) -> Array:
    flat = np.fromiter(map(math.erf, x.ravel()), np.float64, x.size)
    return flat.reshape(x.shape)


def rotated(x: Array, table: Array, *, interleaved: bool) -> Array:
    """Return x (rows, heads, elements) with its first pairs turned.

    table: cosines and sines of the angles (2, rows, pairs).
    """
    pairs = table.shape[2]
    first = np.arange(pairs) * 2 if interleaved else np.arange(pairs)
    second = first + 1 if interleaved else first + pairs
    cos, sin = table[:, :, None]
    out = x.copy()
    out[..., first] = x[..., first] * cos - x[..., second] * sin
    out[..., second] = x[..., second] * cos + x[..., first] * sin
    return out
