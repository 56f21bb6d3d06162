"""The GGUF reader against files written by the `gguf` package."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter

from support.models import real_model
from support.yardstick import cpu_seconds, loop_seconds
from tonnage.core import block_format as bf
from tonnage.formats.codec import dequantize, random_blocks
from tonnage.formats.gguf import GgufArray, GgufFile

# What the gguf package can write.
FORMATS = [
    fmt for fmt in bf.ALL_FORMATS if fmt.ggml_type in GGMLQuantizationType.__members__.values()
]
SHAPES = {"square": (4, 256), "tall": (3, 5, 512), "row": (256,)}


@pytest.fixture
def written(tmp_path) -> Path:
    path = tmp_path / "model.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_name("Ünï 模型")
    writer.add_uint32("u32", 7)
    writer.add_int8("i8", -7)
    writer.add_uint64("u64", 1 << 40)
    writer.add_float32("f32", 0.5)
    writer.add_float64("f64", 0.1)
    writer.add_bool("yes", True)
    writer.add_array("tokens", ["<s>", "é", "", "𝄞"])
    writer.add_array("scores", [0.5, -1.0])
    writer.add_array("types", [1, -2, 3])
    writer.add_array("flags", [True, False])
    for fmt in FORMATS:
        for name, shape in SHAPES.items():
            rng = np.random.default_rng(fmt.ggml_type)
            raw = np.frombuffer(random_blocks(fmt, shape, rng), np.uint8)
            raw = raw.reshape(*shape[:-1], -1)
            kind = GGMLQuantizationType(fmt.ggml_type)
            writer.add_tensor(f"{name}.{fmt.name}", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_metadata(written):
    with GgufFile.open(written) as file:
        scalars = {k: v for k, v in file.metadata.items() if not isinstance(v, GgufArray)}
        arrays = {k: v.to_list() for k, v in file.metadata.items() if isinstance(v, GgufArray)}
        assert file.version == 3
    assert scalars == {
        "general.architecture": "llama",
        "general.name": "Ünï 模型",
        "u32": 7,
        "i8": -7,
        "u64": 1 << 40,
        "f32": 0.5,
        "f64": 0.1,
        "yes": True,
    }
    assert scalars["yes"] is True
    assert arrays == {
        "tokens": ["<s>", "é", "", "𝄞"],
        "scores": [0.5, -1.0],
        "types": [1, -2, 3],
        "flags": [True, False],
    }


def test_array_views(written):
    with GgufFile.open(written) as file:
        tokens, scores = file.metadata["tokens"], file.metadata["scores"]
        assert isinstance(tokens, GgufArray)
        assert isinstance(scores, GgufArray)
        assert (tokens.element_type, len(tokens)) == ("string", 4)
        assert (scores.element_type, scores.count, scores.nbytes) == ("float32", 2, 8)
        raw = written.read_bytes()
        with tokens.buffer() as view:
            assert view == raw[tokens.offset : tokens.offset + tokens.nbytes]
            assert view.readonly
            assert view[:11] == b"\x03" + bytes(7) + b"<s>"


def test_catalog_agrees_with_the_reference_reader(written):
    reference = {tensor.name: tensor for tensor in GGUFReader(written).tensors}
    with GgufFile.open(written) as file:
        tensors = file.catalog.tensors
        assert list(tensors) == list(reference)
        for name, entry in tensors.items():
            theirs = reference[name]
            assert entry.shape == SHAPES[name.split(".")[0]]
            assert entry.shape == tuple(int(n) for n in reversed(theirs.shape))
            assert entry.offset == theirs.data_offset
            assert entry.nbytes == theirs.n_bytes
            assert entry.format.ggml_type == theirs.tensor_type
            assert entry.file == str(written)
        assert file.catalog.files == (str(written),)
        assert file.catalog.file_bytes == written.stat().st_size


def test_tensor_bytes_come_back(written):
    with GgufFile.open(written) as file:
        for fmt in FORMATS:
            expected = random_blocks(fmt, (4, 256), np.random.default_rng(fmt.ggml_type))
            with file.tensor_buffer(f"square.{fmt.name}") as raw:
                assert raw == expected
                assert dequantize(fmt, raw, (4, 256)).shape == (4, 256)


def test_close_waits_for_buffers(written):
    file = GgufFile.open(written)
    view = file.tensor_buffer("row.F32")
    first = bytes(view[:16])
    file.close()
    assert view[:16] == first
    view.release()


def test_fifty_opens_leave_no_descriptor(written):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        GgufFile.open(written).close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_large_vocabulary_stays_in_the_file(tmp_path):
    path = tmp_path / "vocabulary.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_array("tokenizer.ggml.tokens", [f"token number {i}" for i in range(262_144)])
    writer.add_array("tokenizer.ggml.scores", [float(i) for i in range(262_144)])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with GgufFile.open(path) as file:
        tokens = file.metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, GgufArray)
    assert tokens.count == 262_144
    # A quarter of a million strings in less time than half a million rounds of a loop.
    assert cpu_seconds(lambda: GgufFile.open(path).close()) < loop_seconds() / 2


def test_headers_are_read_without_numpy():
    code = (
        "import sys; import tonnage.formats.gguf, tonnage.formats.safetensors;"
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.quiet
def test_a_real_file_opens_fast():
    path = real_model()
    assert cpu_seconds(lambda: GgufFile.open(path).close()) < loop_seconds() / 2
    with GgufFile.open(path) as file:
        reference = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
        assert list(file.catalog.tensors) == list(reference)
        for name, entry in file.catalog.tensors.items():
            assert entry.offset == reference[name].data_offset
            assert entry.nbytes == reference[name].n_bytes
