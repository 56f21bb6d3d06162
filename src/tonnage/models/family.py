"""What a family of models declares, and the numbers of one model before its tensors are matched."""

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from tonnage.blocks.attention import Attention, QkNormKind
from tonnage.blocks.gated_mlp import GatedMlp
from tonnage.blocks.mlp import Mlp
from tonnage.core.block import Branch, Layer
from tonnage.core.checkpoint import TensorEntry
from tonnage.core.model_spec import ModelSpec
from tonnage.core.operands import NormKind
from tonnage.core.record import record
from tonnage.core.rope import RopeSpec
from tonnage.core.steps import Activation
from tonnage.models.scales import Scales

RopeStyle = Literal["half", "interleaved"]


@record
class Family:
    """One architecture as data.

    gguf_architecture: `general.architecture` of its GGUF files, None when it has none of its own.
    gguf_marker: a setting that tells them from files of another family with that architecture.
    hf_wrapper_type: the `model_type` whose config holds this one's as `text_config`.
    gguf_defaults, hf_defaults: settings the family knows beyond those of all families, with the
    value an absent one has; a setting in neither place is refused. hf_names, gguf_names: names of
    tensors that are not the usual ones. not_there: what some models of it have and is left out or
    refused, for documents.

    norm: of the residual stream. eps_setting: what config.json calls its epsilon. norm_offset: what
    Hugging Face weights leave out of the norms. pre_norms, post_norms: whether what goes into
    blocks is normed, and what comes out. gated: whether MLPs are. parallel: the MLP reads what
    attention reads. bias_settings: those of config.json that give q, k, v, o a bias, and
    mlp_bias_setting the MLP, whose inner elements are hidden_setting. logits_divided: `logit_scale`
    of GGUF files divides.

    learned_positions: a table has a vector per position, and nothing rotates. window_period: every
    so many layers one sees everything, 0 when all layers have the window. local_rope_base: base of
    the second rope, used by layers with a window. no_rope_period: every so many layers one rotates
    nothing, 0 for none. rotates_in_windows: layers without a window rotate nothing, unless no layer
    has one. rope_style, gguf_rope_style: which elements of a head are pairs. beside_rope: settings
    of other things in `rope_parameters`. rope_setting: that of config.json which is `rope` where
    layers rotate. wide_scale_layers: a GGUF with that many layers scales attention by d_model /
    num_heads in place of the head size (the 27B Gemmas).
    """

    name: str
    gguf_architecture: str | None
    hf_model_types: tuple[str, ...]
    gguf_marker: str | None = None
    hf_wrapper_type: str | None = None
    activation: Activation = "silu"
    gated: bool = True
    parallel: bool = False
    norm: NormKind = "rms"
    eps_setting: str = "rms_norm_eps"
    qkv_bias: bool = False
    bias_settings: Mapping[str, str] = field(default_factory=lambda: {"attention_bias": "qkvo"})
    mlp_bias_setting: str = "mlp_bias"
    hidden_setting: str = "intermediate_size"
    qk_norm: QkNormKind = "none"
    pre_norms: bool = True
    post_norms: bool = False
    scaled_embedding: bool = False
    norm_offset: float = 0.0
    rope_base: float = 10000.0
    local_rope_base: float | None = None
    window_period: int = 0
    no_rope_period: int = 0
    rotates_in_windows: bool = False
    beside_rope: tuple[str, ...] = ()
    rope_setting: str | None = None
    rope_style: RopeStyle = "half"
    gguf_rope_style: RopeStyle = "half"
    learned_positions: bool = False
    logits_divided: bool = False
    wide_scale_layers: int | None = None
    gguf_defaults: Mapping[str, object] = field(default_factory=dict)
    hf_defaults: Mapping[str, object] = field(default_factory=dict)
    hf_names: Mapping[str, str] = field(default_factory=dict)
    gguf_names: Mapping[str, str] = field(default_factory=dict)
    not_there: str = ""


@record
class Hyperparameters:
    """The numbers of one model, whatever container they came from; per layer where tuples.

    vocab_size None: as many as the embedding has rows. windows: 0 for a layer that sees all.
    rotates: which layers have a rotary embedding. biases: which of q, k, v, o of a layer have one.
    """

    d_model: int
    vocab_size: int | None
    context_length: int
    norm_eps: float
    activation: Activation
    hidden: tuple[int, ...]
    num_heads: tuple[int, ...]
    num_kv_heads: tuple[int, ...]
    k_dim: int
    v_dim: int
    scale: float
    windows: tuple[int, ...]
    rotates: tuple[bool, ...]
    ropes: tuple[RopeSpec, ...]
    biases: tuple[tuple[str, ...], ...]
    mlp_bias: bool = False
    attention_softcap: float = 0.0
    final_softcap: float = 0.0
    parallel: bool = False
    scales: Scales = Scales()

    def layers(self, family: Family) -> tuple[Layer, ...]:
        """Return the layers; those with a window use the last rope."""
        return tuple(self._layer(family, index) for index in range(len(self.windows)))

    def model(
        self,
        family: Family,
        layers: tuple[Layer, ...],
        vocab_size: int,
        weights: dict[str, TensorEntry],
    ) -> ModelSpec:
        """Return the model whose tensors were matched; what one container alone says is added."""
        root = self.d_model**0.5 if family.scaled_embedding else 1.0
        return ModelSpec(
            family=family.name,
            vocab_size=vocab_size,
            d_model=self.d_model,
            layers=layers,
            ropes=self.ropes,
            context_length=self.context_length,
            norm_eps=self.norm_eps,
            embed_scale=self.scales.embedding * root,
            final_softcap=self.final_softcap,
            norm=family.norm,
            logit_scale=self.scales.logits,
            weights=weights,
        )

    def _layer(self, family: Family, index: int) -> Layer:
        window = self.windows[index]
        rope = len(self.ropes) - 1 if window else 0
        attention = Attention(
            num_heads=self.num_heads[index],
            num_kv_heads=self.num_kv_heads[index],
            k_dim=self.k_dim,
            v_dim=self.v_dim,
            scale=self.scale,
            rope=rope if self.rotates[index] else None,
            window=window,
            softcap=self.attention_softcap,
            biases=self.biases[index],
            qk_norm=family.qk_norm,
            temperature=self.scales.temperature,
            temperature_tokens=self.scales.temperature_tokens,
        )
        kind = GatedMlp if family.gated else Mlp
        mlp = kind(self.hidden[index], self.activation, self.mlp_bias)
        return Layer(
            tuple(
                Branch(
                    name,
                    block,
                    pre_norm=family.pre_norms and not parallel,
                    post_norm=family.post_norms,
                    norm=family.norm,
                    scale=self.scales.residual,
                    parallel=parallel,
                )
                for name, block, parallel in (
                    ("attn", attention, False),
                    ("mlp", mlp, self.parallel),
                )
            )
        )


def periodic_windows(window: int, period: int, num_layers: int) -> tuple[int, ...]:
    """Return each layer's window: 0 (all) for the last layer of every `period`, 0: never."""
    return tuple(
        0 if period and index % period == period - 1 else window for index in range(num_layers)
    )


def periodic_rotation(period: int, num_layers: int) -> tuple[bool, ...]:
    """Return whether each layer rotates: not the last one of every `period`; 0: all do."""
    return tuple(not period or index % period != period - 1 for index in range(num_layers))
