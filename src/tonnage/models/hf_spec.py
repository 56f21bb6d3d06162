"""A model's description from the config.json of a Hugging Face folder.

Defaults of absent settings are those of the configuration classes of transformers.
"""

from collections.abc import Mapping
from dataclasses import replace

from tonnage.core.checkpoint import Catalog
from tonnage.core.model_spec import ModelSpec
from tonnage.core.steps import Activation
from tonnage.models.family import (
    Family,
    Hyperparameters,
    periodic_rotation,
    periodic_windows,
)
from tonnage.models.hf_rope import GLOBAL, LOCAL, ropes_of_hf, stretched_context
from tonnage.models.hf_settings import FIXED, IGNORED, READ, is_off
from tonnage.models.hf_tensors import FolderFacts, is_base_model, match_folder
from tonnage.models.scales import scales_of_hf
from tonnage.models.settings import Settings
from tonnage.models.tensor_names import check_layer_count, expected_shapes

# The tanh form of the GELU has many names.
ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "relu2": "relu2",
    **dict.fromkeys(
        ("gelu_pytorch_tanh", "gelu_python_tanh", "gelu_new", "gelu_fast", "gelu_accurate"),
        "gelu_tanh",
    ),
}
# Models with a vision tower: their config holds the language model's as `text_config`.
WRAPPER_READ = frozenset({
    "model_type", "architectures", "tie_word_embeddings", "text_config", "vision_config",
    "mm_tokens_per_image",
    "boi_token_index", "eoi_token_index", "image_token_index",
    "boi_token_id", "eoi_token_id", "image_token_id",
    # Of Mistral 3's tower.
    "projector_hidden_act", "multimodal_projector_bias", "spatial_merge_size",
    "vision_feature_layer",
})  # fmt: skip


def spec_of_hf(family: Family, config: Mapping[str, object], catalog: Catalog) -> ModelSpec:
    """Return the model of a folder of `family`; see registry.spec_from_hf for what it raises."""
    has_vision = config.get("model_type") == family.hf_wrapper_type and "text_config" in config
    text = _text_config(config) if has_vision else config
    settings = Settings(text, family.hf_defaults)
    settings.check_known(READ | IGNORED, FIXED, is_off)
    hyper = _hyperparameters(family, settings, catalog)
    layers = hyper.layers(family)
    rows = settings.count("vocab_size")
    expected = expected_shapes(rows, hyper.d_model, layers, family.norm)
    facts = FolderFacts(
        tied=settings.flag("tie_word_embeddings"),
        is_base=is_base_model(config.get("architectures")),
        has_vision=has_vision,
    )
    weights, has_head = match_folder(family, expected, catalog, facts)
    model = hyper.model(family, layers, rows, weights)
    return replace(model, norm_offset=family.norm_offset, has_head=has_head)


def _text_config(config: Mapping[str, object]) -> Mapping[str, object]:
    """Return the language model's settings out of those of a model with a vision tower."""
    outer = Settings(config, {})
    outer.check_known(WRAPPER_READ | IGNORED, FIXED, is_off)
    tied = {key: config[key] for key in ("tie_word_embeddings",) if config.get(key) is not None}
    return {**outer.table("text_config"), **tied}


def _hyperparameters(family: Family, settings: Settings, catalog: Catalog) -> Hyperparameters:
    num_layers = settings.count("num_hidden_layers")
    check_layer_count(num_layers, "num_hidden_layers", catalog)
    d_model = settings.count("hidden_size")
    heads = settings.count("num_attention_heads")
    kv_heads = settings.count("num_key_value_heads", heads)
    if heads % kv_heads:
        settings.refuse("num_key_value_heads", f"a divisor of the {heads} query heads")
    if settings.get("head_dim") is None and d_model % heads:
        settings.refuse("num_attention_heads", f"a divisor of hidden_size {d_model}")
    dim = settings.count("head_dim", d_model // heads)
    if dim % 2:
        settings.refuse("head_dim", f"even, to be rotated in pairs, where {dim} is odd")
    context_length = settings.count("max_position_embeddings")
    rotates = _rotates(settings, family, num_layers)
    windows = _windows(family, settings, rotates)
    if family.rotates_in_windows and settings.get("sliding_window") is not None:
        rotates = tuple(window > 0 for window in windows)
    ropes = ropes_of_hf(family, settings, dim, context_length)
    return Hyperparameters(
        d_model=d_model,
        vocab_size=settings.count("vocab_size"),
        context_length=stretched_context(ropes, context_length),
        norm_eps=settings.number(family.eps_setting, 1e-6),
        activation=_activation(settings, family),
        hidden=(settings.count(family.hidden_setting),) * num_layers,
        num_heads=(heads,) * num_layers,
        num_kv_heads=(kv_heads,) * num_layers,
        k_dim=dim,
        v_dim=dim,
        scale=_attention_scale(settings, dim),
        windows=windows,
        rotates=rotates,
        ropes=ropes,
        biases=(_biases(settings, family),) * num_layers,
        mlp_bias=settings.flag(family.mlp_bias_setting),
        attention_softcap=settings.number("attn_logit_softcapping", 0.0),
        final_softcap=settings.number("final_logit_softcapping", 0.0),
        parallel=family.parallel or settings.flag("use_parallel_residual"),
        scales=scales_of_hf(
            settings, settings.table("rope_parameters"), context_length, num_layers
        ),
    )


def _attention_scale(settings: Settings, dim: int) -> float:
    """Return what scores are multiplied by; dim: elements of a head."""
    usual = settings.number("query_pre_attn_scalar", float(dim)) ** -0.5
    return settings.number("attention_multiplier", usual)


def _biases(settings: Settings, family: Family) -> tuple[str, ...]:
    """Return which of q, k, v, o have a bias."""
    stated = {
        role
        for key in family.bias_settings
        if settings.flag(key)
        for role in family.bias_settings[key]
    }
    return tuple(role for role in "qkvo" if role in stated or (family.qkv_bias and role != "o"))


def _activation(settings: Settings, family: Family) -> Activation:
    key = "hidden_activation" if "hidden_activation" in family.hf_defaults else "hidden_act"
    return ACTIVATIONS[settings.choice(key, ACTIVATIONS)]


def _rotates(settings: Settings, family: Family, num_layers: int) -> tuple[bool, ...]:
    """Return which layers have a rotary embedding: `no_rope_layers` has 1 for those that do."""
    if family.rope_setting is not None:
        return (settings.get(family.rope_setting) == "rope",) * num_layers
    if settings.get("no_rope_layers") is None:
        period = settings.count("no_rope_layer_interval", family.no_rope_period, least=0)
        return periodic_rotation(period, num_layers)
    rotates = settings.items("no_rope_layers", num_layers)
    if not all(value in (0, 1) for value in rotates):
        settings.refuse("no_rope_layers", "a list of 0 and 1")
    return tuple(value == 1 for value in rotates)


def _windows(family: Family, settings: Settings, rotates: tuple[bool, ...]) -> tuple[int, ...]:
    """Return each layer's window, by `layer_types` if there, else by the family's old keys."""
    known, num_layers = family.hf_defaults, len(rotates)
    switched_off = "use_sliding_window" in known and not settings.flag("use_sliding_window")
    kinds = settings.items("layer_types", num_layers) if "layer_types" in known else []
    kinds = [GLOBAL if kind == "attention" else kind for kind in kinds]
    if any(kinds):
        if not all(kind in (GLOBAL, LOCAL) for kind in kinds):
            settings.refuse("layer_types", f"a list of {GLOBAL} and {LOCAL}")
        if LOCAL not in kinds:
            return (0,) * num_layers
        if switched_off:
            settings.refuse("use_sliding_window", f"true when layer_types has {LOCAL}")
        window = settings.count("sliding_window")
        return tuple(window if kind == LOCAL else 0 for kind in kinds)
    if switched_off or settings.get("sliding_window") is None:
        return (0,) * num_layers
    window = settings.count("sliding_window")
    if family.no_rope_period:
        return tuple(0 if rotated else window for rotated in rotates)
    if "max_window_layers" in known:
        first = settings.count("max_window_layers", least=0)
        return tuple(window if index >= first else 0 for index in range(num_layers))
    period = settings.count("_sliding_window_pattern", family.window_period)
    period = settings.count("sliding_window_pattern", period)
    return periodic_windows(window, period, num_layers)
