"""A model's description from the metadata of a GGUF file.

Keys follow the GGUF specification and, where it is silent, the defaults of llama.cpp.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from tonnage.core.checkpoint import Catalog
from tonnage.core.model_spec import ModelSpec
from tonnage.core.operands import NormKind
from tonnage.core.pooling import Pooling, TrainedPooling
from tonnage.models.family import (
    Family,
    Hyperparameters,
    periodic_rotation,
    periodic_windows,
)
from tonnage.models.fused import split_fused
from tonnage.models.gguf_rope import (
    FIXED_SCALING,
    KNOWN_SCALING,
    divisor_tensors,
    ropes_of_gguf,
)
from tonnage.models.scales import scales_of_gguf
from tonnage.models.settings import Settings
from tonnage.models.tensor_names import (
    check_layer_count,
    expected_shapes,
    gguf_name,
    match_tensors,
)

EPSILON: Mapping[NormKind, str] = {
    "rms": "attention.layer_norm_rms_epsilon",
    "layer": "attention.layer_norm_epsilon",
    "biased layer": "attention.layer_norm_epsilon",
}
KNOWN = frozenset({
    "block_count", "context_length", "embedding_length", "feed_forward_length",
    "attention.head_count", "attention.head_count_kv", "attention.key_length",
    "attention.value_length", "attention.scale",
    "rope.freq_base", "rope.dimension_count", "pooling_type",
    "vocab_size",  # the embedding has as many rows as it has
    # Said of how the file came to be; they change nothing.
    "tensor_data_layout", "rope.scaling.finetuned",
})  # fmt: skip
# What llama.cpp knows (llama-arch.cpp) and families here lack, with the values that switch nothing
# on.
FIXED: Mapping[str, tuple[object, ...]] = {
    "attention.causal": (True,),
    "use_parallel_residual": (False,),
    **dict.fromkeys(("residual_scale", "embedding_scale", "logit_scale"), (1.0, 0.0)),
    **dict.fromkeys((
        "attention.clamp_kqv", "attention.max_alibi_bias", "attention.q_lora_rank",
        "attention.kv_lora_rank", "attention.sliding_window", "attention.shared_kv_layers",
        "attention.temperature_scale", "attention.temperature_length", "attn_logit_softcapping",
        "final_logit_softcapping", "router_logit_softcapping",
        "embedding_length_per_layer_input", "leading_dense_block_count", "nextn_predict_layers",
        "expert_count", "expert_used_count", "expert_shared_count", "expert_group_count",
        "expert_group_used_count", "expert_feed_forward_length", "expert_gating_func",
        "expert_shared_feed_forward_length", "expert_weights_norm", "moe_every_n_layers",
        "interleave_moe_layer_step", "n_deepstack_layers", "swin_norm", "ssm.conv_kernel",
        "ssm.inner_size", "ssm.state_size", "ssm.time_step_rank", "ssm.group_count",
        "ssm.dt_b_c_rms", "wkv.head_size",
    ), (0,)),
    "expert_weights_scale": (1.0, 0.0),
}  # fmt: skip


def spec_of_gguf(family: Family, metadata: Mapping[str, object], catalog: Catalog) -> ModelSpec:
    """Return the model of a GGUF of `family`; see registry.spec_from_gguf for what it raises."""
    settings = Settings(metadata, family.gguf_defaults, f"{family.gguf_architecture}.")
    known = KNOWN | KNOWN_SCALING | {EPSILON[family.norm]}
    settings.check_known(known, {**FIXED, **FIXED_SCALING})
    hyper = _hyperparameters(family, settings, catalog)
    layers = hyper.layers(family)
    embed = catalog.tensors.get(gguf_name("embed"))
    rows = embed.shape[0] if embed and embed.shape else hyper.vocab_size or 0
    expected = expected_shapes(rows, hyper.d_model, layers, family.norm)
    if gguf_name("head") in catalog.tensors:
        expected["head"] = expected["embed"]
    if family.learned_positions:
        expected["positions"] = (hyper.context_length, hyper.d_model)
    for rope in hyper.ropes[:1]:
        for name in divisor_tensors(rope):
            if gguf_name(name) in catalog.tensors:
                expected[name] = (rope.dim // 2,)
    name_of = partial(gguf_name, own=family.gguf_names)
    names = {canonical: name_of(canonical) for canonical in expected}
    catalog = split_fused(catalog, expected, names, name_of)
    weights = match_tensors(expected, names, catalog, _is_ignored)
    pooling = _pooling(settings)
    model = hyper.model(family, layers, rows, weights)
    return replace(model, pooling=pooling.kind, unmet_pooling=pooling.unmet)


def _hyperparameters(family: Family, settings: Settings, catalog: Catalog) -> Hyperparameters:
    num_layers = settings.count("block_count")
    check_layer_count(num_layers, f"{family.gguf_architecture}.block_count", catalog)
    d_model = settings.count("embedding_length")
    heads = settings.counts("attention.head_count", num_layers)
    kv_heads = heads
    if settings.get("attention.head_count_kv") is not None:
        kv_heads = settings.counts("attention.head_count_kv", num_layers)
    if any(q % kv for q, kv in zip(heads, kv_heads, strict=True)):
        settings.refuse("attention.head_count_kv", f"a divisor of the {heads[0]} query heads")
    if settings.get("attention.key_length") is None and d_model % heads[0]:
        settings.refuse("attention.head_count", f"a divisor of embedding_length {d_model}")
    k_dim = settings.count("attention.key_length", d_model // heads[0])
    width = d_model / heads[0] if num_layers == family.wide_scale_layers else k_dim
    vocab = settings.get("vocab_size")
    context_length = settings.count("context_length")
    windows = _windows(family, settings, num_layers)
    rotates = periodic_rotation(family.no_rope_period, num_layers)
    switch = "rope.scaling.finetuned"
    switched_off = switch in family.gguf_defaults and not settings.flag(switch)
    if family.learned_positions or switched_off:
        rotates = (False,) * num_layers
    elif family.rotates_in_windows and any(windows):
        rotates = tuple(window > 0 for window in windows)
    return Hyperparameters(
        d_model=d_model,
        vocab_size=None if vocab is None else settings.count("vocab_size"),
        context_length=context_length,
        norm_eps=settings.number(EPSILON[family.norm]),
        activation=family.activation,
        hidden=settings.counts("feed_forward_length", num_layers),
        num_heads=heads,
        num_kv_heads=kv_heads,
        k_dim=k_dim,
        v_dim=settings.count("attention.value_length", d_model // heads[0]),
        scale=settings.number("attention.scale", float(width) ** -0.5),
        windows=windows,
        rotates=rotates,
        ropes=() if family.learned_positions else ropes_of_gguf(family, settings, k_dim, catalog),
        biases=tuple(_biases(family, catalog, index) for index in range(num_layers)),
        mlp_bias=gguf_name("layers.0.up_bias") in catalog.tensors,
        attention_softcap=_cap(settings, "attn_logit_softcapping"),
        final_softcap=_cap(settings, "final_logit_softcapping"),
        parallel=family.parallel or _lacks_mlp_norm(family, catalog),
        scales=scales_of_gguf(
            settings,
            context_length,
            required=[key for key, value in family.gguf_defaults.items() if value is None],
            logits_divided=family.logits_divided,
        ),
    )


def _lacks_mlp_norm(family: Family, catalog: Catalog) -> bool:
    """Return whether branches are in parallel in a family that leaves it to the file.

    The tensors tell: converters wrote `use_parallel_residual` true for any StableLM.
    """
    may = "use_parallel_residual" in family.gguf_defaults
    return may and gguf_name("layers.0.mlp_norm") not in catalog.tensors


def _cap(settings: Settings, key: str) -> float:
    return 0.0 if settings.get(key) == 0 else settings.number(key, 0.0)


def _biases(family: Family, catalog: Catalog, index: int) -> tuple[str, ...]:
    """Return which products of a layer's attention have a bias; any layer may lack any of them."""
    always = "qkv" if family.qkv_bias else ""
    return tuple(
        role
        for role in "qkvo"
        if role in always or gguf_name(f"layers.{index}.{role}_bias") in catalog.tensors
    )


# What llama.cpp's files say of how hidden states become one vector.
_POOLINGS: Mapping[int, Pooling | None] = {0: None, 1: "mean", 3: "last"}
_OTHER_POOLINGS = {2: "cls", 4: "rank"}


def _pooling(settings: Settings) -> TrainedPooling:
    kind = settings.count("pooling_type", 0, least=0)
    if kind in _OTHER_POOLINGS:
        return TrainedPooling(unmet=f"pooling_type {kind} ({_OTHER_POOLINGS[kind]})")
    if kind not in _POOLINGS:
        settings.refuse("pooling_type", "0 (none), 1 (mean), 2 (cls), 3 (last) or 4 (rank)")
    return TrainedPooling(_POOLINGS[kind])


def _windows(family: Family, settings: Settings, num_layers: int) -> tuple[int, ...]:
    if "attention.sliding_window" not in family.gguf_defaults:
        return (0,) * num_layers
    if settings.get("attention.sliding_window") == 0:
        return (0,) * num_layers
    window = settings.count("attention.sliding_window")
    pattern = settings.get("attention.sliding_window_pattern")
    if pattern is None or isinstance(pattern, int):
        period = family.window_period if pattern is None else pattern
        return periodic_windows(window, period, num_layers)
    slides = settings.items("attention.sliding_window_pattern", num_layers)
    if not all(isinstance(value, bool | int) for value in slides):
        settings.refuse("attention.sliding_window_pattern", "a number or an array of truth values")
    return tuple(window if value else 0 for value in slides)


def _is_ignored(name: str) -> bool:
    # Old converters wrote the inverse frequencies, which the settings already say.
    return name.endswith(("attn_rot_embd.weight", "attn_rot_embd"))
