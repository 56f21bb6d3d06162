"""The safetensors reader against files written by the `safetensors` package."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tonnage.core import block_format as bf
from tonnage.core.errors import ModelNotFoundError
from tonnage.formats.codec import dequantize
from tonnage.formats.safetensors import open_safetensors, read_safetensors_header


def arrays(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        f"model.{seed}.weight": rng.standard_normal((5, 7)).astype(np.float32),
        f"model.{seed}.half": rng.standard_normal((3, 2, 4)).astype(np.float16),
        f"model.{seed}.scalar": np.array(seed, np.float32),
        f"model.{seed}.none": np.zeros((0, 4), np.float32),
    }


def stored(path: Path, offset: int, nbytes: int) -> bytes:
    return path.read_bytes()[offset : offset + nbytes]


@pytest.fixture
def sharded(tmp_path) -> Path:
    weight_map = {}
    for seed in (1, 2):
        shard = f"model-0000{seed}-of-00002.safetensors"
        save_file(arrays(seed), tmp_path / shard)
        weight_map.update(dict.fromkeys(arrays(seed), shard))
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    return tmp_path


def test_a_single_file(tmp_path):
    path = tmp_path / "model.safetensors"
    expected = arrays(3)
    save_file(expected, path, metadata={"format": "pt"})
    catalog = open_safetensors(tmp_path)
    assert catalog == open_safetensors(path)
    assert catalog.files == (str(path),)
    assert catalog.file_bytes == path.stat().st_size
    assert set(catalog.tensors) == set(expected)
    for name, entry in catalog.tensors.items():
        assert entry.shape == expected[name].shape
        assert entry.format is (bf.F16 if "half" in name else bf.F32)
        raw = stored(path, entry.offset, entry.nbytes)
        assert raw == expected[name].tobytes()
        assert np.array_equal(dequantize(entry.format, raw, entry.shape), expected[name])


def test_bfloat16(tmp_path):
    header = {"t": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [0, 4]}}
    raw = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + b"\x80\x3f\x00\xc0")
    entry = open_safetensors(path).tensors["t"]
    assert entry.format is bf.BF16
    values = dequantize(bf.BF16, stored(path, entry.offset, entry.nbytes), entry.shape)
    assert values.tolist() == [[1.0], [-2.0]]


def test_shards(sharded):
    catalog = open_safetensors(sharded)
    assert catalog == open_safetensors(sharded / "model.safetensors.index.json")
    expected = arrays(1) | arrays(2)
    assert set(catalog.tensors) == set(expected)
    assert [Path(file).name[:11] for file in catalog.files] == ["model-00001", "model-00002"]
    assert catalog.file_bytes == sum(Path(file).stat().st_size for file in catalog.files)
    for name, entry in catalog.tensors.items():
        raw = stored(Path(entry.file), entry.offset, entry.nbytes)
        assert raw == expected[name].tobytes()


def test_shards_behind_symbolic_links(sharded, tmp_path):
    # The Hugging Face cache: snapshots/<revision>/<name> links to blobs/<hash>.
    cache = tmp_path / "snapshot"
    cache.mkdir()
    for file in sharded.glob("model*"):
        (cache / file.name).symlink_to(Path("..") / file.name)
    assert set(open_safetensors(cache).tensors) == set(arrays(1) | arrays(2))


def test_tensors_beyond_the_index_are_listed(sharded):
    index = sharded / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    del content["weight_map"]["model.2.half"]
    index.write_text(json.dumps(content))
    assert "model.2.half" in open_safetensors(sharded).tensors


def test_a_single_file_wins_over_an_index(sharded):
    save_file(arrays(5), sharded / "model.safetensors")
    assert set(open_safetensors(sharded).tensors) == set(arrays(5))


def test_nothing_there(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"holds neither model.safetensors nor"):
        open_safetensors(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"does not exist"):
        open_safetensors(tmp_path / "x.safetensors")
    with pytest.raises(ModelNotFoundError, match=r"does not exist"):
        open_safetensors(tmp_path / "model.safetensors.index.json")


def test_one_header(sharded):
    path = sharded / "model-00001-of-00002.safetensors"
    entries, size = read_safetensors_header(path)
    assert size == path.stat().st_size
    assert set(entries) == set(arrays(1))


def test_tensors_of_integers_are_left_out(tmp_path):
    others = {"ids": np.arange(3), "mask": np.ones(5, bool), "u": np.zeros((2, 2), np.uint8)}
    save_file({**arrays(2), **others}, tmp_path / "model.safetensors")
    assert set(open_safetensors(tmp_path).tensors) == set(arrays(2))
