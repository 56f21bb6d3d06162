"""Which tensors of a folder are the model: names with and without prefix, heads of every kind."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from support.checkpoints import TinyModel, tiny_config, tiny_model, write_hf
from support.containers import read_hf, read_tensor
from tonnage.core.checkpoint import Catalog
from tonnage.core.errors import FileFormatError, TensorMismatchError
from tonnage.core.model_spec import ModelSpec
from tonnage.models.registry import spec_from_hf

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def opened(folder: Path, model: TinyModel, num_shards: int = 1) -> ModelSpec:
    return spec_from_hf(*read_hf(write_hf(folder, model, num_shards=num_shards)))


def with_weights(model: TinyModel, **changes: object) -> TinyModel:
    """Return the model with other tensors; a name that is None is left out."""
    weights = {**model.weights, **changes}
    return replace(model, weights={name: w for name, w in weights.items() if w is not None})


def renamed(catalog: Catalog, prefix: str) -> Catalog:
    tensors = {
        name.replace("model.", prefix, 1) if name.startswith("model.") else name: entry
        for name, entry in catalog.tensors.items()
    }
    return replace(catalog, tensors=tensors)


@pytest.mark.parametrize("num_shards", [1, 4])
def test_a_head_that_differs_from_a_tied_embedding_is_used(num_shards: int, tmp_path: Path) -> None:
    model = tiny_model(tiny_config("qwen2"))
    own = model.weights[EMBED].copy()
    own[-1, -1] += 1  # Only the very last value tells.
    spec = opened(tmp_path, with_weights(model, **{HEAD: own}), num_shards)
    assert not spec.tied_head
    assert (read_tensor(spec.weights["head"]) == own).all()


def test_a_head_that_is_the_embedding_is_held_once(tmp_path: Path) -> None:
    model = tiny_model(tiny_config("qwen2"))
    again = with_weights(model, **{HEAD: model.weights[EMBED]})
    assert opened(tmp_path / "tied", again).tied_head
    config = {**model.config, "tie_word_embeddings": False}
    assert not opened(tmp_path / "untied", replace(again, config=config)).tied_head


def test_a_tied_checkpoint_may_hold_the_shared_tensor_as_its_head(tmp_path: Path) -> None:
    model = tiny_model(tiny_config("qwen2"))
    shared = with_weights(model, **{HEAD: model.weights[EMBED], EMBED: None})
    spec = opened(tmp_path, shared)
    assert spec.tied_head
    assert (read_tensor(spec.weights["embed"]) == model.weights[EMBED]).all()


def test_a_tied_head_of_another_size_is_refused(tmp_path: Path) -> None:
    model = tiny_model(tiny_config("qwen2"))
    longer = np.ones((model["vocab_size"] + 1, model["hidden_size"]), np.float32)
    with pytest.raises(TensorMismatchError, match=r"lm_head\.weight has shape \(308, 96\)"):
        opened(tmp_path, with_weights(model, **{HEAD: longer}))


def test_a_head_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    model = tiny_model(tiny_config("qwen2"))
    folder = write_hf(tmp_path, with_weights(model, **{HEAD: model.weights[EMBED] + 1}))
    config, catalog = read_hf(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileFormatError, match="cannot be read"):
        spec_from_hf(config, catalog)


@pytest.mark.parametrize("prefix", ["", "language_model.", "language_model.model."])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text"])
def test_names_may_have_other_prefixes(family: str, prefix: str, tmp_path: Path) -> None:
    config, catalog = read_hf(write_hf(tmp_path, tiny_model(tiny_config(family))))
    plain = spec_from_hf(config, catalog)
    other = renamed(catalog, prefix)
    if prefix == "language_model.model." and HEAD in other.tensors:
        other.tensors[f"language_model.{HEAD}"] = other.tensors.pop(HEAD)  # type: ignore[attr-defined]
    assert spec_from_hf(config, other) == plain


@pytest.mark.parametrize(
    ("architectures", "has_head"),
    [
        (["LlamaModel"], False),
        (["LlamaForCausalLM"], True),
        (["LlamaModel", "LlamaForCausalLM"], True),
        (None, True),
        ([], True),
    ],
)
def test_only_base_models_lack_a_head(
    architectures: list[str] | None, has_head: bool, tmp_path: Path
) -> None:
    model = with_weights(
        tiny_model(tiny_config("llama", architectures=architectures)), **{HEAD: None}
    )
    if has_head:
        with pytest.raises(TensorMismatchError, match=r"1 missing: lm_head\.weight"):
            opened(tmp_path, model)
    else:
        assert not opened(tmp_path, model).has_head


def test_a_base_model_that_is_tied_or_holds_a_head_has_one(tmp_path: Path) -> None:
    tied = tiny_model(tiny_config("qwen2", architectures=["Qwen2Model"]))
    assert opened(tmp_path / "tied", tied).has_head
    held = tiny_model(tiny_config("llama", architectures=["LlamaModel"]))
    spec = opened(tmp_path / "held", held)
    assert spec.has_head
    assert not spec.tied_head


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.3.self_attn.q_proj.weight",
        "model.layers.11.anything.weight",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.rotary_emb.inv_freq",
        "model.embeddings.position_ids",
    ],
)
def test_what_no_layer_reads_is_passed_over(name: str, tmp_path: Path) -> None:
    model = tiny_model(tiny_config("llama"))
    plain = opened(tmp_path / "plain", model)
    more = opened(tmp_path / "more", with_weights(model, **{name: np.ones((4, 4), np.float32)}))
    assert more.weights.keys() == plain.weights.keys()


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.2.self_attn.q_norm.weight",
        "model.layers.x.weight",
        "model.layers.99999999999.weight",
        "layers.3.self_attn.q_proj.weight",
        "score.weight",
    ],
)
def test_what_may_matter_is_left_over(name: str, tmp_path: Path) -> None:
    model = with_weights(tiny_model(tiny_config("llama")), **{name: np.ones((4, 4), np.float32)})
    with pytest.raises(TensorMismatchError, match=f"1 left over: {name}"):
        opened(tmp_path, model)
