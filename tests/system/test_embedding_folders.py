"""Folders of embedding models: pooled as they say, and no text from a model without a head."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from support.checkpoints import tiny_config, tiny_model, write_hf
from tonnage.core.errors import RequestError
from tonnage.engine.engine import Engine

TEXT = list(range(3, 40))
CLASSES = ("Transformer", "Pooling", "Normalize")


def write_folder(folder: Path, mode: str, *more: str) -> Path:
    """Write a base model without a head, named without `model.`, and what makes its vectors."""
    model = tiny_model(tiny_config("llama", architectures=["LlamaModel"], num_hidden_layers=2))
    weights = {name.removeprefix("model."): w for name, w in model.weights.items()}
    del weights["lm_head.weight"]
    write_hf(folder, replace(model, weights=weights))
    modules = [
        {
            "idx": i,
            "path": f"{i}_{name}" if i else "",
            "type": f"sentence_transformers.models.{name}",
        }
        for i, name in enumerate((*CLASSES, *more))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    config = {"pooling_mode_mean_tokens": False, f"pooling_mode_{mode}": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(("mode", "name"), [("lasttoken", "last"), ("mean_tokens", "mean")])
def test_a_folder_is_pooled_as_it_says(mode: str, name: str, tmp_path: Path) -> None:
    with Engine.open(str(write_folder(tmp_path, mode)), context=64, threads=1) as engine:
        stated = engine.embed(TEXT, pooling=name)[0].vector
        assert engine.embed(TEXT)[0].vector == stated
        with pytest.raises(RequestError, match=r"base model without an output head.*lm_head"):
            engine.generate(TEXT)
        (ended,) = engine.generate_batch([TEXT])
        assert isinstance(ended.error, RequestError)


def test_what_a_folder_asks_for_beyond_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "lasttoken", "Dense")
    with Engine.open(str(folder), context=64, threads=1) as engine:
        with pytest.raises(
            RequestError, match=r"3_Dense \(Dense\)\. State a pooling \(mean or las"
        ):
            engine.embed(TEXT)
        assert len(engine.embed(TEXT, pooling="last")[0].vector) == 96
