"""Tensors that hold several matrices, one below the other."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf, write_hf
from support.containers import read_gguf, read_hf, read_tensor
from tonnage.core.errors import TensorMismatchError
from tonnage.models.registry import spec_from_gguf, spec_from_hf


@pytest.mark.parametrize("container", ["hf", "gguf"])
def test_parts_are_the_rows_of_the_whole(container: str, tmp_path: Path) -> None:
    model = tiny_model(tiny_config("phi3", num_hidden_layers=1))
    if container == "hf":
        spec = spec_from_hf(*read_hf(write_hf(tmp_path, model)))
    else:
        spec = spec_from_gguf(*read_gguf(write_gguf(tmp_path / "m.gguf", model)))
    layer = "model.layers.0."
    for whole, roles in (("self_attn.qkv_proj", "q k v"), ("mlp.gate_up_proj", "gate up")):
        parts = [read_tensor(spec.weights[f"layers.0.{role}"]) for role in roles.split()]
        assert np.array_equal(np.concatenate(parts), model.weights[f"{layer}{whole}.weight"])


def test_blocks_of_a_quantized_tensor_are_parted(tmp_path: Path) -> None:
    model = tiny_model(tiny_config("phi3", num_hidden_layers=1))
    path = write_gguf(tmp_path / "m.gguf", model, matrices("Q8_0"))
    spec = spec_from_gguf(*read_gguf(path))
    whole = read_gguf(path)[1].tensors["blk.0.attn_qkv.weight"]
    parts = [spec.weights[f"layers.0.{role}"] for role in "qkv"]
    assert [part.format.name for part in parts] == ["Q8_0"] * 3
    assert sum(part.nbytes for part in parts) == whole.nbytes
    ends = [part.offset + part.nbytes for part in parts]
    assert [whole.offset, *ends[:-1]] == [part.offset for part in parts]
    assert np.array_equal(np.concatenate([*map(read_tensor, parts)]), read_tensor(whole))


def fewer_rows(values: np.ndarray) -> np.ndarray:
    return values[:-1]


def fewer_columns(values: np.ndarray) -> np.ndarray:
    return values[:, :-1]


@pytest.mark.parametrize("cut", [fewer_rows, fewer_columns])
def test_a_whole_of_another_shape_is_named(
    cut: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    model = tiny_model(tiny_config("phi3", num_hidden_layers=1))
    name = "model.layers.0.self_attn.qkv_proj.weight"
    model.weights[name] = np.ascontiguousarray(cut(model.weights[name]))
    with pytest.raises(TensorMismatchError, match=f"3 missing: .*1 left over: {name}"):
        spec_from_hf(*read_hf(write_hf(tmp_path, model)))
