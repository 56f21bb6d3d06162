"""Settings of training, generation and saving change no model; what may matter is refused."""

from collections.abc import Mapping

import pytest

from support.checkpoints import tiny_config, tiny_model, write_hf
from support.containers import read_hf
from tonnage.core.checkpoint import Catalog
from tonnage.core.errors import UnsupportedModelError
from tonnage.models.hf_settings import IGNORED, READ
from tonnage.models.registry import families, spec_from_hf

HARMLESS: Mapping[str, object] = {
    "max_length": 4096,
    "max_new_tokens": 4096,
    "do_sample": True,
    "temperature": 0.9,
    "top_p": 0.6,
    "num_beams": 1,
    "model_max_length": 2048,
    "max_sequence_length": 2048,
    "neftune_noise_alpha": 5,
    "bos_token": "<s>",
    "pad_token_id": -1,
    "embd_pdrop": 0.1,
    "use_flash_attn": True,
    "dtype": "bfloat16",
    "id2label": {"0": "a"},
    # Switched off, or empty.
    "use_bias": False,
    "use_qk_norm": False,
    "add_cross_attention": False,
    "is_moe": False,
    "pruned_heads": {},
    "mlp_only_layers": [],
    "qk_layernorm": False,
    "num_local_experts": 0,
    "is_causal": True,
    "anything": None,
}
MATTERS: Mapping[str, object] = {
    "use_bias": True,
    "qk_layernorm": True,
    "num_local_experts": 8,
    "is_causal": False,
    "quantization_config": {"bits": 4},
    "pruned_heads": {"0": [1]},
    "mlp_only_layers": [0],
    "embedding_multiplier": 12.0,
    "logit_scale": 0,
    "scale_depth": False,
    "rope_interleaved": True,
    "use_bidirectional_attention": True,
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Catalog]:
    return read_hf(write_hf(tmp_path_factory.mktemp("hf"), tiny_model(tiny_config("llama"))))


@pytest.mark.parametrize("key", HARMLESS)
def test_what_changes_no_forward_pass_changes_no_model(
    opened: tuple[dict, Catalog], key: str
) -> None:
    config, catalog = opened
    assert spec_from_hf({**config, key: HARMLESS[key]}, catalog) == spec_from_hf(config, catalog)


@pytest.mark.parametrize("key", MATTERS)
def test_what_may_matter_is_refused_by_name(opened: tuple[dict, Catalog], key: str) -> None:
    config, catalog = opened
    with pytest.raises(UnsupportedModelError, match=rf"1 settings .* {key} = .*may give wrong"):
        spec_from_hf({**config, key: MATTERS[key]}, catalog)


def test_no_setting_that_a_family_reads_is_ignored() -> None:
    read = READ.union(*(family.hf_defaults for family in families()))
    assert not read & IGNORED
