"""Rope settings of both containers: what absent ones mean, where their limits lie."""

from dataclasses import replace
from pathlib import Path

import pytest

from support.checkpoints import LLAMA3, tiny_config, tiny_model, write_gguf, write_hf
from support.containers import read_gguf, read_hf
from tonnage.core.checkpoint import Catalog
from tonnage.core.errors import UnsupportedModelError
from tonnage.core.rope import RopeSpec
from tonnage.models.registry import spec_from_gguf, spec_from_hf

FAMILIES = ("llama", "gemma3_text")
Files = dict[str, tuple[dict, Catalog]]
CONTEXT = 512


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("gguf")
    return {
        family: read_gguf(write_gguf(folder / family, tiny_model(tiny_config(family))))
        for family in FAMILIES
    }


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("hf")
    return {
        family: read_hf(write_hf(Path(folder) / family, tiny_model(tiny_config(family))))
        for family in FAMILIES
    }


def gguf_ropes(files: Files, family: str, **changes: object) -> tuple[RopeSpec, ...]:
    """Return the ropes with settings replaced; `__` stands for the dot of a key."""
    metadata, catalog = files[family]
    prefix = f"{metadata['general.architecture']}.rope."
    changed = {prefix + key.replace("__", "."): value for key, value in changes.items()}
    return spec_from_gguf({**metadata, **changed}, catalog).ropes


def hf_ropes(files: Files, family: str, **changes: object) -> tuple[RopeSpec, ...]:
    config, catalog = files[family]
    return spec_from_hf({**config, **changes}, catalog).ropes


@pytest.mark.parametrize(("kind", "factor"), [(None, 4.0), ("linear", 4.0), ("none", 1.0)])
def test_gguf_factors_count_unless_there_is_no_scaling(
    gguf: Files, kind: str | None, factor: float
) -> None:
    (rope,) = gguf_ropes(gguf, "llama", scaling__type=kind, scaling__factor=4.0)
    assert rope.factor == factor


def test_gguf_limits_are_allowed(gguf: Files) -> None:
    (rope,) = gguf_ropes(gguf, "llama", scaling__type="linear", scaling__factor=1.0, freq_base=1.0)
    assert (rope.factor, rope.base) == (1.0, 1.0)


@pytest.mark.parametrize("key", ["scaling__factor", "freq_base"])
def test_gguf_numbers_below_one_are_refused(gguf: Files, key: str) -> None:
    with pytest.raises(UnsupportedModelError, match="finite number of at least 1"):
        gguf_ropes(gguf, "llama", **{key: 0.5})


def test_gguf_local_base_of_gemma3_is_ten_thousand(gguf: Files) -> None:
    assert [rope.base for rope in gguf_ropes(gguf, "gemma3_text", freq_base_swa=None)] == [1e6, 1e4]


@pytest.mark.parametrize("name", ["attn_rot_embd.weight", "attn_rot_embd"])
def test_inverse_frequencies_of_old_converters_are_passed_over(gguf: Files, name: str) -> None:
    metadata, catalog = gguf["llama"]
    entry = next(iter(catalog.tensors.values()))
    more = replace(catalog, tensors={**catalog.tensors, f"blk.0.{name}": entry})
    assert spec_from_gguf(metadata, more) == spec_from_gguf(metadata, catalog)


def test_llama3_scales_from_the_context_where_no_other_is_said(hf: Files) -> None:
    table = {key: value for key, value in LLAMA3.items() if not key.startswith("original")}
    (old,) = hf_ropes(hf, "llama", rope_scaling=table)
    (new,) = hf_ropes(hf, "llama", rope_parameters=table)
    assert old.llama3 == new.llama3 == (8.0, 1.0, 4.0, CONTEXT)
    nested = {"full_attention": table, "sliding_attention": table}
    ropes = hf_ropes(hf, "gemma3_text", rope_parameters=nested)
    assert [rope.llama3 for rope in ropes] == [(8.0, 1.0, 4.0, CONTEXT)] * 2


def test_hf_limits_are_allowed(hf: Files) -> None:
    linear = {"rope_type": "linear", "factor": 1.0}
    (rope,) = hf_ropes(hf, "llama", rope_theta=1.0, rope_scaling=linear)
    assert (rope.factor, rope.base) == (1.0, 1.0)
    (rope,) = hf_ropes(hf, "llama", rope_parameters={"rope_theta": 1.0})
    assert rope.base == 1.0
    assert hf_ropes(hf, "gemma3_text", rope_local_base_freq=1.0)[1].base == 1.0


def test_the_local_base_is_read(hf: Files) -> None:
    assert hf_ropes(hf, "gemma3_text", rope_local_base_freq=2e3)[1].base == 2e3


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("llama", {"rope_theta": 0.5}),
        ("llama", {"rope_parameters": {"rope_theta": 0.5}}),
        ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 0.5}}),
        ("gemma3_text", {"rope_local_base_freq": 0.5}),
    ],
)
def test_hf_numbers_below_one_are_refused(
    hf: Files, family: str, changes: dict[str, object]
) -> None:
    with pytest.raises(UnsupportedModelError, match="finite number of at least 1"):
        hf_ropes(hf, family, **changes)


@pytest.mark.parametrize("layers", ["full_attention", "sliding_attention"])
def test_a_refusal_names_the_nested_table(hf: Files, layers: str) -> None:
    nested = {layers: {"rope_type": "linear"}}
    with pytest.raises(UnsupportedModelError, match=rf"rope_parameters\.{layers}\.factor is missi"):
        hf_ropes(hf, "gemma3_text", rope_parameters=nested)


def test_factors_in_the_wrong_order_are_refused_with_the_limit(hf: Files) -> None:
    with pytest.raises(UnsupportedModelError, match=r"below high_freq_factor 4\.0"):
        hf_ropes(hf, "llama", rope_scaling=LLAMA3 | {"low_freq_factor": 4.0})
