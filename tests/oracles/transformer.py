"""A decoder-only transformer in plain float64 numpy: no cache, no blocks, no speed.

Arrays are (tokens, elements) or (tokens, heads, elements). Attention: Vaswani et al. 2017, grouped
queries: Ainslie et al. 2023. RMSNorm: Zhang and Sennrich 2019. Gated MLP: Shazeer 2020. Rotary
embedding: Su et al. 2021. Windows: Jiang et al. 2023. Capped scores: Riviere et al. 2024.
LayerNorm: Ba et al. 2016. Branches in parallel: Wang and Komatsuzaki 2021.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from oracles.rope import Llama3, Yarn, inverse_frequencies

Array = np.ndarray
Tensor = Callable[[str], Array]
Store = Callable[[Array], Array]


@dataclass(frozen=True)
class Rope:
    """Rotation of the first `dim` elements of a head.

    style: `half` pairs element i with i + dim/2, `interleaved` pairs 2i with 2i + 1. linear:
    positions are divided by it. llama3: Llama 3.1's scaling, or None; yarn: likewise. divisors: of
    the frequencies, or empty. turning: how many first pairs turn, None for all. attention_factor:
    of what was rotated.
    """

    dim: int
    base: float
    style: Literal["half", "interleaved"] = "half"
    linear: float = 1.0
    llama3: Llama3 | None = None
    yarn: Yarn | None = None
    divisors: tuple[float, ...] = ()
    turning: int | None = None
    attention_factor: float = 1.0


@dataclass(frozen=True)
class Attention:
    """Attention of `num_heads` query heads over `num_kv_heads` heads of keys and values.

    rope: index into Model.ropes, None for no rotation. window: positions seen, its own included, 0
    for all. softcap: 0 for none. qk_norm: over each head, or over all heads of a token together.
    temperature: (b, n) multiplies queries at position p by 1 + b log(1 + floor(p / n)).
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
    qk_norm: Literal["none", "head", "all"] = "none"
    temperature: tuple[float, int] | None = None


@dataclass(frozen=True)
class Layer:
    """Attention, then an MLP of `hidden` inner elements, each added to the residual stream.

    pre_norms: the input of both is normed. post_norms: their outputs are. mlp_bias: all matrices of
    the MLP have one. gated: it has a gate. parallel: the MLP reads what attention reads. scale: of
    what is added.
    """

    attention: Attention
    hidden: int
    activation: Literal["silu", "gelu_tanh", "gelu", "relu2"] = "silu"
    pre_norms: bool = True
    post_norms: bool = False
    mlp_bias: bool = False
    gated: bool = True
    parallel: bool = False
    scale: float = 1.0


@dataclass(frozen=True)
class Model:
    """A model without its weights.

    norm_offset: added to every norm weight. has_rope_factors: the tensor `rope_factors` divides the
    frequencies of rope 0. tied_head: the output head is the embedding. norm: of what goes into
    layers and head. logit_scale: of the logits. has_positions: the tensor `positions` has a vector
    per position, which is added to the embedding.
    """

    d_model: int
    layers: tuple[Layer, ...]
    ropes: tuple[Rope, ...]
    norm_eps: float
    embed_scale: float = 1.0
    final_softcap: float = 0.0
    norm_offset: float = 0.0
    tied_head: bool = False
    has_rope_factors: bool = False
    norm: Literal["rms", "layer", "biased layer"] = "rms"
    logit_scale: float = 1.0
    has_positions: bool = False


def as_they_are(x: Array) -> Array:
    """Return x: keys and values that no page rounds."""
    return x


def forward(
    model: Model, tensor: Tensor, token_ids: Sequence[int], store: Store = as_they_are
) -> Array:
    """Return the logits (T, vocab) of every position.

    tensor: name -> float64 weights; names: `embed`, `head`, `final_norm`, `rope_factors`, and per
    layer i `layers.i.` with attn_norm, q, k, v, q_bias, k_bias, v_bias, q_norm, k_norm, o, o_bias,
    post_attn_norm, mlp_norm, gate, up, down, their biases, post_mlp_norm. Matrices are (out, in).
    store: what a cache makes of keys and values (tokens, elements) of a head.
    """
    return logits(model, tensor, hidden_states(model, tensor, token_ids, store)[-1])


def hidden_states(
    model: Model, tensor: Tensor, token_ids: Sequence[int], store: Store = as_they_are
) -> list[Array]:
    """Return the residual stream (T, d_model): the embedding, then after each layer."""
    states = [tensor("embed")[list(token_ids)] * model.embed_scale]
    if model.has_positions:
        states[0] = states[0] + tensor("positions")[: len(token_ids)]
    for index, layer in enumerate(model.layers):
        states.append(_layer(model, layer, _within_layer(tensor, index), states[-1], store))
    return states


def last_hidden_state(
    model: Model, tensor: Tensor, token_ids: Sequence[int], store: Store = as_they_are
) -> Array:
    """Return what the head reads (T, d_model): the residual stream after the final norm."""
    last = hidden_states(model, tensor, token_ids, store)[-1]
    return stream_norm(model, last, tensor, "final_norm")


def logits(model: Model, tensor: Tensor, hidden: Array) -> Array:
    """Return the logits of final hidden states (T, d_model)."""
    head = tensor("embed" if model.tied_head else "head")
    products = stream_norm(model, hidden, tensor, "final_norm") @ head.T
    return softcap(products * model.logit_scale, model.final_softcap)


def _within_layer(tensor: Tensor, index: int) -> Tensor:
    return lambda role: tensor(role if role == "rope_factors" else f"layers.{index}.{role}")


def _layer(model: Model, layer: Layer, tensor: Tensor, x: Array, store: Store) -> Array:
    def before(role: str, value: Array) -> Array:
        return stream_norm(model, value, tensor, role) if layer.pre_norms else value

    def after(role: str, value: Array) -> Array:
        normed = norm(model, value, tensor(role)) if layer.post_norms else value
        return layer.scale * normed

    inner = before("attn_norm", x)
    mixed = after("post_attn_norm", attention(model, layer.attention, tensor, inner, store))
    if layer.parallel:
        return x + mixed + after("post_mlp_norm", mlp(layer, tensor, inner))
    x = x + mixed
    return x + after("post_mlp_norm", mlp(layer, tensor, before("mlp_norm", x)))


def attention(
    model: Model, attn: Attention, tensor: Tensor, x: Array, store: Store = as_they_are
) -> Array:
    """Return the attention's output (T, d_model) for its input (T, d_model)."""
    q, k, v = _projected(model, attn, tensor, x)
    if attn.temperature is not None:
        beta, length = attn.temperature
        q = q * (1 + beta * np.log(1 + np.arange(len(q)) // length))[:, None, None]
    if attn.rope is not None:
        rope, angles = model.ropes[attn.rope], frequencies(model, attn.rope, tensor)
        q, k = rotate(q, rope, angles), rotate(k, rope, angles)
    per_group = attn.num_heads // attn.num_kv_heads
    heads = [
        _head(attn, q[:, h], store(k[:, h // per_group]), store(v[:, h // per_group]))
        for h in range(attn.num_heads)
    ]
    out = np.concatenate(heads, axis=1) @ tensor("o").T
    return out + tensor("o_bias") if "o" in attn.biases else out


def _projected(
    model: Model, attn: Attention, tensor: Tensor, x: Array
) -> tuple[Array, Array, Array]:
    """Return q, k, v (T, heads, elements), q and k normed where the model does."""
    q, k, v = (
        x @ tensor(role).T + (tensor(f"{role}_bias") if role in attn.biases else 0)
        for role in "qkv"
    )
    if attn.qk_norm == "all":
        q, k = norm(model, q, tensor("q_norm")), norm(model, k, tensor("k_norm"))
    q = q.reshape(len(x), attn.num_heads, attn.k_dim)
    k = k.reshape(len(x), attn.num_kv_heads, attn.k_dim)
    v = v.reshape(len(x), attn.num_kv_heads, attn.v_dim)
    if attn.qk_norm == "head":
        q, k = norm(model, q, tensor("q_norm")), norm(model, k, tensor("k_norm"))
    return q, k, v


def _head(attn: Attention, q: Array, k: Array, v: Array) -> Array:
    scores = softcap(q @ k.T * attn.scale, attn.softcap)
    query, key = np.indices(scores.shape)
    visible = key <= query
    if attn.window:
        visible &= key > query - attn.window
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ v


def frequencies(model: Model, rope: int, tensor: Tensor) -> Array:
    """Return the angle per position of each rotated pair."""
    which = model.ropes[rope]
    inverse = inverse_frequencies(
        which.dim, which.base, linear=which.linear, llama3=which.llama3, yarn=which.yarn
    )
    inverse[which.turning :] *= 0 if which.turning is not None else 1
    if which.divisors:
        inverse = inverse / np.array(which.divisors)
    if rope == 0 and model.has_rope_factors:
        inverse = inverse / tensor("rope_factors")
    return inverse


def rotate(x: Array, rope: Rope, inverse: Array) -> Array:
    """Return x (T, heads, elements) with its first rope.dim elements rotated by position."""
    angles = np.arange(len(x))[:, None, None] * inverse
    cos, sin = np.cos(angles) * rope.attention_factor, np.sin(angles) * rope.attention_factor
    half = rope.dim // 2
    if rope.style == "half":
        first, second = np.arange(half), np.arange(half) + half
    else:
        first, second = np.arange(half) * 2, np.arange(half) * 2 + 1
    out = x.copy()
    out[..., first] = x[..., first] * cos - x[..., second] * sin
    out[..., second] = x[..., second] * cos + x[..., first] * sin
    return out


def mlp(layer: Layer, tensor: Tensor, x: Array) -> Array:
    """Return the MLP's output (T, d_model)."""

    def product(role: str, value: Array) -> Array:
        out = value @ tensor(role).T
        return out + tensor(f"{role}_bias") if layer.mlp_bias else out

    activation = {"silu": silu, "gelu_tanh": gelu_tanh, "gelu": gelu, "relu2": squared_relu}
    up = product("up", x)
    if layer.gated:
        inner = activation[layer.activation](product("gate", x)) * up
    else:
        inner = activation[layer.activation](up)
    return product("down", inner)


def stream_norm(model: Model, x: Array, tensor: Tensor, role: str) -> Array:
    """Return the norm of the residual stream with the weights `role`."""
    if model.norm == "rms":
        return norm(model, x, tensor(role))
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt(centred.var(axis=-1, keepdims=True) + model.norm_eps)
    out = centred / spread * (tensor(role) + model.norm_offset)
    return out + tensor(f"{role}_bias") if model.norm == "biased layer" else out


def norm(model: Model, x: Array, weight: Array) -> Array:
    """Return x over its root mean square along the last axis, times the weight."""
    mean_square = (x * x).mean(axis=-1, keepdims=True)
    return x / np.sqrt(mean_square + model.norm_eps) * (weight + model.norm_offset)


def softcap(x: Array, cap: float) -> Array:
    """Return cap * tanh(x / cap), or x when cap is 0."""
    return cap * np.tanh(x / cap) if cap else x


def silu(x: Array) -> Array:
    """Return x * sigmoid(x)."""
    return x * 0.5 * (1 + np.tanh(x / 2))


def squared_relu(x: Array) -> Array:
    """Return max(x, 0) squared (So et al. 2021)."""
    return np.maximum(x, 0) ** 2


def gelu(x: Array) -> Array:
    """Return x times the normal distribution function (Hendrycks and Gimpel 2016)."""
    return x * np.vectorize(lambda value: math.erfc(-value / math.sqrt(2)) / 2)(x)


def gelu_tanh(x: Array) -> Array:
    """Return the GELU's tanh approximation (Hendrycks and Gimpel 2016)."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
