"""The runtime on tiny random checkpoints of every family, against the reference transformer."""

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from kernel_ops import wrappers
from kernel_ops.arena import Matrix
from support import eight_bits
from support.checkpoints import (
    FAMILIES,
    TinyModel,
    all_f32,
    matrices,
    tiny_config,
    tiny_model,
    write_gguf,
    write_hf,
)
from support.containers import read_gguf, read_hf, weights_of
from support.described import FLOAT_FORMATS
from support.runtime_parity import assert_parity
from support.tiny_families import WIDE
from tonnage._native import Executor, best_isa
from tonnage.backends.cpu.layout.plan import make_plan
from tonnage.core.block_format import ALL_FORMATS, BY_NAME, NVFP4
from tonnage.core.checkpoint import TensorEntry
from tonnage.core.errors import LogitsError, UnsupportedModelError
from tonnage.core.mix import TARGETS
from tonnage.core.model_spec import ModelSpec
from tonnage.core.workload import Workload
from tonnage.engine.engine import Engine
from tonnage.formats.codec import random_blocks
from tonnage.formats.safetensors import open_safetensors
from tonnage.models.registry import spec_from_gguf, spec_from_hf
from tonnage.planner.quality.precision import precision_formats


def config_of(family: str, **changes: object) -> dict[str, object]:
    """Return a config.json of `family` whose sizes have kernels."""
    return tiny_config(family, **{**WIDE.get(family, {}), **changes})


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_hugging_face_floats(family: str, dtype: str, tmp_path: Path) -> None:
    folder = write_hf(tmp_path, tiny_model(config_of(family)), dtype=dtype)
    assert_parity(spec_from_hf(*read_hf(folder)))


GGUF_KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")


@pytest.mark.parametrize("family", FAMILIES)
def test_gguf_floats(family: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", tiny_model(config_of(family)), all_f32)
    assert_parity(spec_from_gguf(*read_gguf(path)))


@pytest.mark.parametrize("kind", GGUF_KINDS[1:])
@pytest.mark.parametrize("family", FAMILIES)
def test_gguf_blocks(family: str, kind: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", tiny_model(config_of(family)), matrices(kind))
    assert_parity(spec_from_gguf(*read_gguf(path)))


def test_mixed_formats_in_one_layer(tmp_path: Path) -> None:
    kinds = {
        "attn_q": "BF16", "attn_k": "Q8_0", "attn_v": "F32", "ffn_gate": "Q4_1", "ffn_up": "F16",
    }  # fmt: skip

    def choose(name: str, shape: tuple[int, ...]) -> str:
        if len(shape) == 1:
            return "F32"
        return kinds.get(name.split(".")[-2], "Q5_1" if "blk.1" in name else "BF16")

    path = write_gguf(tmp_path / "m.gguf", tiny_model(config_of("qwen2")), choose)
    assert_parity(spec_from_gguf(*read_gguf(path)))


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
@pytest.mark.parametrize("family", FAMILIES)
def test_keys_and_values_in_int8(family: str, kind: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", tiny_model(config_of(family)), matrices(kind))
    assert_parity(spec_from_gguf(*read_gguf(path)), kv_format="int8")


SIZES = {
    "llama": [
        {"head_dim": 64, "v_dim": 48}, {"head_dim": 80, "v_dim": 16},
        {"head_dim": 16, "v_dim": 256},
        {"head_dim": 128, "num_attention_heads": 6, "num_key_value_heads": 1},
        {"vocab_size": 16, "tie_word_embeddings": True}, {"vocab_size": 33},
        {"hidden_size": 32, "intermediate_size": 32}, {"num_hidden_layers": 1},
        {"num_attention_heads": 4, "num_key_value_heads": 4, "attention_bias": True},
    ],
    "mistral": [{"sliding_window": 64}, {"sliding_window": 65}, {"sliding_window": 1}],
    "qwen3": [{"head_dim": 96}, {"head_dim": 128, "v_dim": 64}],
    "gemma2": [{"head_dim": 256}, {"sliding_window": 100}],
    "gemma3_text": [{"head_dim": 96}, {"head_dim": 256, "num_hidden_layers": 7}],
}  # fmt: skip
SIZE_CASES = [(family, sizes) for family, cases in SIZES.items() for sizes in cases]


def sized(family: str, sizes: dict[str, object]) -> TinyModel:
    """Return a tiny model with some sizes replaced; v_dim is no setting of config.json."""
    changes = {name: value for name, value in sizes.items() if name != "v_dim"}
    v_dim = sizes.get("v_dim")
    return tiny_model(config_of(family, **changes), v_dim=v_dim)


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
@pytest.mark.parametrize(("family", "sizes"), SIZE_CASES, ids=str)
def test_odd_sizes(family: str, sizes: dict[str, object], kind: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", sized(family, sizes), matrices(kind))
    assert_parity(spec_from_gguf(*read_gguf(path)))


# Every family, with what the sizes of its settings allow.
ODD_SIZES: dict[str, dict[str, object]] = {
    "heads of 100": {
        "head_dim": 100, "hidden_size": 300, "num_attention_heads": 3, "num_key_value_heads": 1,
    },
    "heads of 8": {"head_dim": 8, "intermediate_size": 70},
    "heads of 80, width 560": {"head_dim": 80, "hidden_size": 560, "num_hidden_layers": 1},
    "1,432 inner elements": {"intermediate_size": 1432, "hidden_size": 48, "head_dim": 24},
    "seven of everything": {
        "head_dim": 14, "hidden_size": 77, "intermediate_size": 7, "num_attention_heads": 7,
        "num_key_value_heads": 7,
    },
}  # fmt: skip

# A part of a head rotates in pairs: half of 14 cannot.
EVEN_PARTS: dict[tuple[str, str], dict[str, object]] = {
    (family, "seven of everything"): {"partial_rotary_factor": 6 / 7}
    for family in FAMILIES
    if "partial_rotary_factor" in tiny_config(family)
}


ODD_CASES = [
    (family, sizes, ("F32", "F16", "BF16")[(i + j) % 3])
    for i, family in enumerate(FAMILIES)
    for j, sizes in enumerate(ODD_SIZES)
]


@pytest.mark.parametrize(("family", "sizes", "dtype"), ODD_CASES)
def test_sizes_that_are_no_multiple_of_32(
    family: str, sizes: str, dtype: str, tmp_path: Path
) -> None:
    changes = {"num_hidden_layers": 2, **ODD_SIZES[sizes], **EVEN_PARTS.get((family, sizes), {})}
    model = tiny_model(tiny_config(family, **changes))
    folder = write_hf(tmp_path, model, dtype=dtype)
    assert_parity(spec_from_hf(*read_hf(folder)))
    path = write_gguf(tmp_path / "m.gguf", model, matrices(dtype))
    assert_parity(spec_from_gguf(*read_gguf(path)), kv_format="int8")


@pytest.mark.parametrize("precision", ["8bit", "4bit"])
@pytest.mark.parametrize("sizes", ODD_SIZES)
@pytest.mark.parametrize("family", ["gemma2", "olmo2"])
def test_quantizing_rows_that_end_within_a_block(
    family: str, sizes: str, precision: str, tmp_path: Path
) -> None:
    model = tiny_model(tiny_config(family, **{"num_hidden_layers": 2, **ODD_SIZES[sizes]}))
    spec = spec_from_hf(*read_hf(write_hf(tmp_path, model, dtype="BF16")))
    formats = precision_formats(spec, precision)
    assert_parity(spec, requantized(spec, dict(formats)), formats=formats)


def test_heads_of_100_in_blocks_of_the_file(tmp_path: Path) -> None:
    """As OpenLLaMA 3B: rows are whole blocks of 32, heads are not."""
    model = tiny_model(tiny_config("llama", head_dim=100, num_attention_heads=8))
    for kind, kv_format in (("Q8_0", "f16"), ("Q5_1", "int8")):
        spec = spec_from_gguf(*read_gguf(write_gguf(tmp_path / kind, model, matrices(kind))))
        assert {e.format.name for e in spec.weights.values() if len(e.shape) > 1} == {kind}
        assert_parity(spec, kv_format=kv_format)


def test_llama3_rope_factors(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    model = tiny_model(config_of("llama", rope_theta=5e5, rope_scaling=scaling))
    assert_parity(spec_from_hf(*read_hf(write_hf(tmp_path, model))))
    path = write_gguf(tmp_path / "m.gguf", model)
    assert_parity(spec_from_gguf(*read_gguf(path)))


@pytest.mark.parametrize("precision", ["8bit", "4bit"])
@pytest.mark.parametrize("family", FAMILIES)
def test_quantizing_while_loading(family: str, precision: str, tmp_path: Path) -> None:
    folder = write_hf(tmp_path, tiny_model(config_of(family)), dtype="BF16")
    spec = spec_from_hf(*read_hf(folder))
    formats = precision_formats(spec, precision)
    assert not FLOAT_FORMATS & {fmt for _, fmt in formats}
    assert_parity(spec, requantized(spec, dict(formats)), formats=formats)


def requantized(spec: ModelSpec, formats: dict[str, str]) -> Callable[[str], np.ndarray]:
    """Return name -> values, of the matrices in `formats` those that panels hold."""
    plain = weights_of(spec)
    team = Executor(best_isa(), 1)

    def tensor(name: str) -> np.ndarray:
        if name not in formats:
            return plain(name)
        entry = spec.weights[name]
        data = Path(entry.file).read_bytes()[entry.offset : entry.offset + entry.nbytes]
        matrix = Matrix(entry.format, data, entry.shape)
        return wrappers.packed_rows(team, matrix, BY_NAME[formats[name]]).astype(np.float64)

    return tensor


def test_a_mix_of_every_target(tmp_path: Path) -> None:
    config = tiny_config("qwen3", hidden_size=256, intermediate_size=512, head_dim=64)
    path = write_gguf(tmp_path / "m.gguf", tiny_model(config), matrices("Q8_0"))
    spec = spec_from_gguf(*read_gguf(path))
    names = sorted(name for name, entry in spec.weights.items() if len(entry.shape) == 2)
    formats = dict(zip(names, cycle(TARGETS), strict=False))
    assert set(formats.values()) == set(TARGETS)
    assert_parity(spec, requantized(spec, formats), formats=tuple(formats.items()))


def test_a_tied_table_is_one_matrix(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", tiny_model(config_of("gemma3_text")), matrices("Q8_0"))
    spec = spec_from_gguf(*read_gguf(path))
    assert spec.tied_head
    formats = {"embed": "IQ4_NL"}
    assert_parity(spec, requantized(spec, formats), formats=tuple(formats.items()))


def every_format(spec: ModelSpec, path: Path) -> ModelSpec:
    """Return `spec` with matrices of random blocks, each of the next format, stored in `path`."""
    rng = np.random.default_rng(2)
    weights, data = {}, b""
    formats = cycle(ALL_FORMATS)
    for name, entry in sorted(spec.weights.items()):
        fmt = next(formats) if len(entry.shape) == 2 else BY_NAME["F32"]
        blocks = random_blocks(fmt, entry.shape, rng)
        weights[name] = TensorEntry(name, fmt, entry.shape, str(path), len(data), len(blocks))
        data += blocks
    path.write_bytes(data)
    return replace(spec, weights=weights)


def test_every_block_format_in_one_model(tmp_path: Path) -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64}
    config = tiny_config("qwen3", **sizes, num_hidden_layers=len(ALL_FORMATS) // 7)
    model = spec_from_hf(*read_hf(write_hf(tmp_path, tiny_model(config))))
    spec = every_format(model, tmp_path / "blocks")
    assert {entry.format for entry in spec.weights.values()} == set(ALL_FORMATS)
    assert_parity(spec)


@pytest.mark.parametrize("kind", eight_bits.KINDS)
def test_folders_of_eight_bits(kind: str, tmp_path: Path) -> None:
    model = tiny_model(config_of("qwen3", hidden_size=160, intermediate_size=288))
    folder = write_hf(tmp_path, model)
    values = eight_bits.to_eight_bits(folder, kind, lambda name: name.endswith("proj.weight"))
    config = {**model.config, "quantization_config": {"quant_method": "fp8", "fmt": "e4m3"}}
    spec = spec_from_hf(config, open_safetensors(folder))
    scaled = [name for name in spec.weights if name.endswith("_scale")]
    assert len(scaled) == (0 if kind == "none" else len(values))
    plain = weights_of(spec)

    def tensor(name: str) -> np.ndarray:
        exact = values.get(spec.weights[name].name)
        if exact is None:
            return plain(name)
        return exact.astype(np.float32).astype(np.float16).astype(np.float64)

    assert_parity(spec, tensor)
    assert_parity(spec, tensor, kv_format="int8")


def test_nvfp4_with_a_scale_of_each_tensor(tmp_path: Path) -> None:
    model = tiny_model(config_of("qwen3", hidden_size=64, intermediate_size=128))
    shapes = {name: values.shape for name, values in model.weights.items()}
    assert all(shape[-1] % 64 == 0 for shape in shapes.values() if len(shape) == 2)
    metadata, catalog = read_gguf(write_gguf(tmp_path / "m.gguf", model, all_f32))
    rng, data, tensors = np.random.default_rng(3), b"", dict(catalog.tensors)
    factors = {}
    for name, entry in catalog.tensors.items():
        if len(entry.shape) == 2 and name.startswith("blk."):
            blocks = random_blocks(NVFP4, entry.shape, rng)
            factor = np.float32(rng.uniform(0.2, 2))
            stem = name.removesuffix("weight")
            at, file = len(data), str(tmp_path / "blocks")
            tensors[name] = TensorEntry(name, NVFP4, entry.shape, file, at, len(blocks))
            tensors[stem + "scale"] = TensorEntry(
                stem + "scale", BY_NAME["F32"], (1,), file, at + len(blocks), 4
            )
            factors[name] = float(factor)
            data += blocks + factor.tobytes()
    (tmp_path / "blocks").write_bytes(data)
    spec = spec_from_gguf(metadata, replace(catalog, tensors=tensors))
    plain = weights_of(spec)
    assert_parity(spec, lambda name: plain(name) * factors.get(spec.weights[name].name, 1.0))


REFUSED = {
    "heads of 528 and 64 elements, more than 512": {"head_dim": 528, "v_dim": 64},
    "49 query heads over 1 key heads, not 1 to 48 over each": {
        "num_attention_heads": 49, "num_key_value_heads": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize(("message", "sizes"), REFUSED.items())
def test_sizes_without_a_kernel_are_refused(
    message: str, sizes: dict[str, object], tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "m.gguf", sized("llama", sizes))
    spec = spec_from_gguf(*read_gguf(path))
    with pytest.raises(UnsupportedModelError, match=message):
        make_plan(spec, Workload(context_tokens=64, threads=1))


def test_what_layers_share_is_said_once(tmp_path: Path) -> None:
    sizes = {"head_dim": 520, "num_attention_heads": 98, "num_hidden_layers": 3}
    spec = spec_from_gguf(*read_gguf(write_gguf(tmp_path / "m.gguf", sized("llama", sizes))))
    with pytest.raises(UnsupportedModelError) as caught:
        make_plan(spec, Workload(context_tokens=64, threads=1))
    assert str(caught.value) == (
        "No kernel fits this model: every layer has heads of 520 elements, more than 512; every "
        "layer has 98 query heads over 2 key heads, not 1 to 48 over each. Its files in other "
        "formats have the same sizes, so use another model."
    )
    first, *others = spec.layers
    narrow = replace(first.branches[0].block, num_heads=96)
    fits = replace(first, branches=(replace(first.branches[0], block=narrow), first.branches[1]))
    with pytest.raises(UnsupportedModelError, match="; 2 of 3 layers with 98 query heads"):
        make_plan(replace(spec, layers=(fits, *others)), Workload(context_tokens=64, threads=1))


def test_damaged_weights_end_in_a_sentence(tmp_path: Path) -> None:
    model = tiny_model(tiny_config("llama"), seed=3)
    path = tmp_path / "damaged.gguf"
    write_gguf(path, model)
    spec = spec_from_gguf(*read_gguf(path))
    norm = spec.weights["final_norm"]
    data = bytearray(path.read_bytes())
    data[norm.offset : norm.offset + 4] = np.float32(np.inf).tobytes()
    path.write_bytes(data)
    with (
        Engine.open(str(path), context=64, threads=1) as engine,
        pytest.raises(LogitsError, match=r"llama: the logits are not finite.*download"),
    ):
        engine.generate([1], max_tokens=1).complete()
