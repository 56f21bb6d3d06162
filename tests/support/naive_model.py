"""The whole model in plain float64 numpy: the referee of the native runtime.

It follows the contracts of tonnage.core.model_spec word by word, keeps no cache and knows no
speed. Arrays are (tokens, elements) or (tokens, heads, elements).
"""

from collections.abc import Callable, Sequence

import numpy as np

from tonnage.core.model_spec import AttentionSpec, LayerSpec, MlpSpec, ModelSpec, RopeSpec

Array = np.ndarray
Tensor = Callable[[str], Array]


def forward(spec: ModelSpec, tensor: Tensor, token_ids: Sequence[int]) -> Array:
    """Return the logits (T, vocab) of every position; tensor: canonical name -> float64 weights."""
    return logits(spec, tensor, hidden_states(spec, tensor, token_ids)[-1])


def hidden_states(spec: ModelSpec, tensor: Tensor, token_ids: Sequence[int]) -> list[Array]:
    """Return the residual stream (T, d_model): the embedding, then after each layer."""
    states = [tensor("embed")[list(token_ids)] * spec.embed_scale]
    for index, layer in enumerate(spec.layers):
        states.append(_layer(spec, layer, _within_layer(tensor, index), states[-1]))
    return states


def last_hidden_state(spec: ModelSpec, tensor: Tensor, token_ids: Sequence[int]) -> Array:
    """Return what the head reads (T, d_model): the residual stream after the final norm."""
    return norm(spec, hidden_states(spec, tensor, token_ids)[-1], tensor("final_norm"))


def logits(spec: ModelSpec, tensor: Tensor, hidden: Array) -> Array:
    """Return the logits of final hidden states (T, d_model)."""
    head = tensor("embed" if spec.tied_head else "head")
    return softcap(norm(spec, hidden, tensor("final_norm")) @ head.T, spec.final_softcap)


def _within_layer(tensor: Tensor, index: int) -> Tensor:
    return lambda role: tensor(role if role == "rope_factors" else f"layers.{index}.{role}")


def _layer(spec: ModelSpec, layer: LayerSpec, tensor: Tensor, x: Array) -> Array:
    mixed = attention(spec, layer.attention, tensor, norm(spec, x, tensor("attn_norm")))
    if layer.post_norms:
        mixed = norm(spec, mixed, tensor("post_attn_norm"))
    x = x + mixed
    inner = mlp(layer.mlp, tensor, norm(spec, x, tensor("mlp_norm")))
    if layer.post_norms:
        inner = norm(spec, inner, tensor("post_mlp_norm"))
    return x + inner


def attention(spec: ModelSpec, attn: AttentionSpec, tensor: Tensor, x: Array) -> Array:
    """Return the attention's output (T, d_model) for normed inputs (T, d_model)."""
    num_tokens = len(x)
    q, k, v = x @ tensor("q").T, x @ tensor("k").T, x @ tensor("v").T
    if attn.bias:
        q, k, v = q + tensor("q_bias"), k + tensor("k_bias"), v + tensor("v_bias")
    q = q.reshape(num_tokens, attn.num_heads, attn.k_dim)
    k = k.reshape(num_tokens, attn.num_kv_heads, attn.k_dim)
    v = v.reshape(num_tokens, attn.num_kv_heads, attn.v_dim)
    if attn.qk_norm:
        q, k = norm(spec, q, tensor("q_norm")), norm(spec, k, tensor("k_norm"))
    q, k = (rotate(x, spec.ropes[attn.rope], frequencies(spec, attn.rope, tensor)) for x in (q, k))
    heads = [
        _head(attn, q[:, h], k[:, h // (attn.num_heads // attn.num_kv_heads)],
              v[:, h // (attn.num_heads // attn.num_kv_heads)])
        for h in range(attn.num_heads)
    ]  # fmt: skip
    out = np.concatenate(heads, axis=1) @ tensor("o").T
    return out + tensor("o_bias") if attn.out_bias else out


def _head(attn: AttentionSpec, q: Array, k: Array, v: Array) -> Array:
    scores = softcap(q @ k.T * attn.scale, attn.softcap)
    query, key = np.indices(scores.shape)
    visible = key <= query
    if attn.window:
        visible &= key > query - attn.window
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ v


def frequencies(spec: ModelSpec, rope: int, tensor: Tensor) -> Array:
    """Return the angle per position of each rotated pair."""
    inverse = np.array(spec.ropes[rope].inverse_frequencies())
    if rope == 0 and "rope_factors" in spec.weights:
        inverse = inverse / tensor("rope_factors")
    return inverse


def rotate(x: Array, rope: RopeSpec, inverse: Array) -> Array:
    """Return x (T, heads, elements) with its first rope.dim elements rotated by position."""
    angles = np.arange(len(x))[:, None, None] * inverse
    cos, sin = np.cos(angles), np.sin(angles)
    half = rope.dim // 2
    if rope.style == "half":
        first, second = np.arange(half), np.arange(half) + half
    else:
        first, second = np.arange(half) * 2, np.arange(half) * 2 + 1
    out = x.copy()
    out[..., first] = x[..., first] * cos - x[..., second] * sin
    out[..., second] = x[..., second] * cos + x[..., first] * sin
    return out


def mlp(spec: MlpSpec, tensor: Tensor, x: Array) -> Array:
    """Return the gated MLP's output (T, d_model)."""
    gate, up = x @ tensor("gate").T, x @ tensor("up").T
    activated = silu(gate) if spec.activation == "silu" else gelu_tanh(gate)
    return (activated * up) @ tensor("down").T


def norm(spec: ModelSpec, x: Array, weight: Array) -> Array:
    """Return x over its root mean square along the last axis, times the weight."""
    mean_square = (x * x).mean(axis=-1, keepdims=True)
    return x / np.sqrt(mean_square + spec.norm_eps) * (weight + spec.norm_offset)


def softcap(x: Array, cap: float) -> Array:
    """Return cap * tanh(x / cap), or x when cap is 0."""
    return cap * np.tanh(x / cap) if cap else x


def silu(x: Array) -> Array:
    """Return x * sigmoid(x)."""
    return x * 0.5 * (1 + np.tanh(x / 2))


def gelu_tanh(x: Array) -> Array:
    """Return the GELU's tanh approximation (Hendrycks and Gimpel 2016)."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
