"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm, a plain MLP, biases everywhere."""

from tonnage.models.family import Family

GPT2 = Family(
    name="gpt2",
    gguf_architecture="gpt2",
    hf_model_types=(),
    activation="gelu_tanh",
    gated=False,
    norm="biased layer",
    qkv_bias=True,
    learned_positions=True,
    not_there="folders, whose matrices lie the other way round",
)
