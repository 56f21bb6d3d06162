"""Whatever the settings hold, the answer is a model or a sentence."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.checkpoints import FAMILIES, tiny_config, tiny_model, write_gguf, write_hf
from support.containers import read_gguf, read_hf
from tonnage.core.checkpoint import Catalog
from tonnage.core.errors import TonnageError, UnsupportedModelError
from tonnage.core.model_spec import ModelSpec
from tonnage.models.registry import spec_from_gguf, spec_from_hf

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@lru_cache
def tiny(family: str, container: str) -> tuple[Mapping[str, object], Catalog]:
    with TemporaryDirectory() as folder:
        model = tiny_model(tiny_config(family, num_hidden_layers=2))
        if container == "gguf":
            return read_gguf(write_gguf(Path(folder) / "m.gguf", model))
        return read_hf(write_hf(Path(folder), model))


@given(family=st.sampled_from(FAMILIES), container=st.sampled_from(["gguf", "hf"]), data=st.data())
def test_any_value_of_any_setting(family: str, container: str, data: st.DataObject) -> None:
    settings, catalog = tiny(family, container)
    extra = ["rope_scaling", "rope_parameters", "layer_types", "text_config", "head_dim"]
    keys = st.sampled_from(sorted(settings) + extra)
    changes = data.draw(st.dictionaries(keys, VALUES, min_size=1, max_size=3))
    build = spec_from_gguf if container == "gguf" else spec_from_hf
    try:
        spec = build({**settings, **changes}, catalog)
    except TonnageError:
        return
    assert isinstance(spec, ModelSpec)
    assert len(spec.ropes[0].inverse_frequencies()) == spec.ropes[0].dim // 2


@given(st.dictionaries(st.text(max_size=20), VALUES), st.sampled_from(FAMILIES))
def test_any_table(settings: dict[str, object], family: str) -> None:
    for build, key in ((spec_from_gguf, "general.architecture"), (spec_from_hf, "model_type")):
        with pytest.raises(TonnageError):
            build({**settings, key: family}, Catalog({}, (), 0))


class Endless:
    """An array of a hostile file: as long as it says, and too long to be read."""

    def __len__(self) -> int:
        return 1 << 40

    def to_list(self) -> list[int]:
        raise AssertionError("an array was read that has the wrong length")


@pytest.mark.parametrize(
    "key", ["attention.head_count", "feed_forward_length", "attention.head_count_kv"]
)
def test_an_array_of_the_wrong_length_is_not_read(key: str) -> None:
    settings, catalog = tiny("llama", "gguf")
    with pytest.raises(UnsupportedModelError, match="one for each of the 2 layers"):
        spec_from_gguf({**settings, f"llama.{key}": Endless()}, catalog)
