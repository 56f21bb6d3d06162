"""Damaged and hostile safetensors files and shard indexes end in one sentence."""

import json
import tracemalloc
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.refusals import assert_refused
from tonnage.core.errors import (
    FileFormatError,
    ModelNotFoundError,
    TonnageError,
    UnsupportedTypeError,
)
from tonnage.formats.safetensors import open_safetensors


def tensor(dtype: object, shape: object, begin: object, end: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def pack(header: object, num_data_bytes: int) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + bytes(num_data_bytes)


SMALL = pack(
    {
        "__metadata__": {"format": "pt"},
        "a": tensor("F32", [2, 3], 0, 24),
        "b": tensor("BF16", [4], 24, 32),
        "c": tensor("F16", [], 32, 34),
    },
    34,
)


def outcome(path: Path) -> str:
    try:
        catalog = open_safetensors(path)
    except TonnageError as error:
        return str(error)
    size = path.stat().st_size
    assert all(0 <= e.offset <= e.offset + e.nbytes <= size for e in catalog.tensors.values())
    assert all(e.nbytes == e.format.nbytes(e.shape) for e in catalog.tensors.values())
    return "Read."


@pytest.fixture
def refused(tmp_path):
    return partial(assert_refused, open_safetensors, tmp_path / "bad.safetensors")


def test_the_small_file_is_valid(tmp_path):
    path = tmp_path / "small.safetensors"
    path.write_bytes(SMALL)
    assert outcome(path) == "Read."


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "cut.safetensors"
    for size in range(len(SMALL)):
        path.write_bytes(SMALL[:size])
        with pytest.raises(
            FileFormatError, match=rf"ends at byte {size:,} but .* download it again"
        ):
            open_safetensors(path)


def test_trailing_bytes_are_refused(refused):
    refused(SMALL + b"x", r"its tensors end at byte")


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_flipped_bytes_never_crash(tmp_path, data):
    raw = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(raw)
    assert outcome(path).endswith(".")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
FIELD = st.sampled_from(["F32", "F16", "BF16", [2, 3], [6], [0, 24], [24, 0], [], "I64"]) | JSON
INFO = st.fixed_dictionaries({"dtype": FIELD, "shape": FIELD, "data_offsets": FIELD}) | JSON


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), INFO, max_size=3) | JSON)
def test_any_json_header_never_crashes(tmp_path, header):
    path = tmp_path / "json.safetensors"
    path.write_bytes(pack(header, 24))
    assert outcome(path).endswith(".")


def test_absurd_header_length_allocates_nothing(tmp_path):
    path = tmp_path / "absurd.safetensors"
    for length in ((1 << 64) - 1, 1 << 40, (16 << 20) + 1):
        path.write_bytes(length.to_bytes(8, "little") + b"{}")
        tracemalloc.start()
        with pytest.raises(FileFormatError, match=rf"a header of {length:,} bytes, over the limit"):
            open_safetensors(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100_000


def test_unreadable_json(refused):
    refused(pack(b"\xff\xfe{}", 0), r"no readable JSON header")
    refused(pack(b"{", 0), r"no readable JSON header")
    refused(pack(b"[" * 100_000, 0), r"no readable JSON header: it nests too deeply")
    refused(pack(b"[]", 0), r"a list where a JSON object belongs")
    refused(pack(b'{"a": NaN}', 0), r"NaN is not JSON")
    refused(pack(b'{"a": ' + b"9" * 5000 + b"}", 0), r"no readable JSON header")
    refused(pack(b'{"a": {}, "a": {}}', 0), r"the name 'a' comes twice")


def test_malformed_entries(refused):
    refused(pack({"a": 1}, 0), r"describes tensor 'a' by 1")
    refused(pack({"a": {"dtype": "F32", "shape": []}}, 0), r"describes tensor 'a' by")
    refused(pack({"a": tensor("F32", [1], 0, 4) | {"x": 1}}, 4), r"describes tensor 'a' by")
    refused(pack({"a": tensor(3, [1], 0, 4)}, 4), r"'a' the dtype 3")
    refused(pack({"a": tensor("F32", 1, 0, 4)}, 4), r"'a' the shape 1")
    refused(pack({"a": tensor("F32", [1] * 9, 0, 4)}, 4), r"'a' the shape \[1, 1")
    refused(pack({"a": tensor("F32", [-1], 0, 4)}, 4), r"'a' the shape \[-1\]")
    refused(pack({"a": tensor("F32", [True], 0, 4)}, 4), r"'a' the shape \[True\]")
    refused(pack({"a": tensor("F32", [1.0], 0, 4)}, 4), r"'a' the shape \[1.0\]")
    refused(pack({"a": tensor("F32", [1 << 60] * 8, 0, 4)}, 4), r"'a' the shape \[1152921")
    refused(pack({"a": tensor("F32", [1], -4, 0)}, 4), r"'a' the range \[-4, 0\]")
    refused(pack({"a": tensor("F32", [1], 0, None)}, 4), r"'a' the range \[0, None\]")
    refused(pack({"a": tensor("F32", [1], 4, 0)}, 4), r"'a' of shape \(1,\) -4 bytes.* needs 4")
    refused(pack({"a": tensor("F32", [2], 0, 4)}, 4), r"'a' of shape \(2,\) 4 bytes.* needs 8")
    refused(pack({"\x1b[2J": 1}, 0), r"describes tensor '\\x1b\[2J'")
    refused(pack({"\ud800": tensor("F32", [1], 0, 4)}, 4), r"a tensor named '\\ud800'")


def test_holes_overlaps_and_ranges(refused):
    one = tensor("F32", [2], 0, 8)
    refused(pack({"a": one, "b": tensor("F32", [2], 4, 12)}, 12), r"'b' .* overlaps the tensor")
    refused(pack({"a": one, "b": one}, 8), r"overlaps the tensor before it")
    refused(pack({"a": one, "b": tensor("F32", [1], 12, 16)}, 16), r"'b' .* follows a hole")
    refused(pack({"a": tensor("F32", [1], 4, 8)}, 8), r"'a' .* follows a hole")
    refused(pack({"a": one}, 12), r"its tensors end at byte")
    refused(pack({"a": tensor("F32", [1 << 40], 0, 1 << 42)}, 8), r"tensor 'a' needs bytes up to")


def test_unsupported_types_are_named_together(refused):
    header = {
        "a": tensor("F8_E5M2", [4], 0, 4),
        "b": tensor("C64", [1], 4, 12),
        "c": tensor("C64", [1], 12, 20),
    }
    refused(
        pack(header, 20),
        r"3 tensors of types .* 'F8_E5M2' \(1\), 'C64' \(2\); the first is 'a'",
        UnsupportedTypeError,
    )


def test_tensors_of_integers_are_checked_too(refused):
    refused(pack({"a": tensor("I64", [2], 0, 8)}, 8), r"I64 tensor 'a' of shape \(2,\) 8 bytes")


@pytest.fixture
def folder(tmp_path):
    def write(weight_map: object, **shards: bytes) -> Path:
        for name, data in shards.items():
            (tmp_path / f"{name}.safetensors").write_bytes(data)
        index = tmp_path / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": weight_map}))
        return tmp_path

    return write


@pytest.mark.parametrize(
    "shard",
    [
        "../x.safetensors",
        "/etc/x.safetensors",
        "sub/x.safetensors",
        "..\\x.safetensors",
        "C:x.safetensors",
        "x\0.safetensors",
        "\ud800.safetensors",
        ".x.safetensors",
        ".safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "",
        None,
        3,
        ["x.safetensors"],
    ],
)
def test_shards_outside_the_folder_and_index_cycles(folder, tmp_path, shard):
    (tmp_path.parent / "x.safetensors").write_bytes(SMALL)
    with pytest.raises(FileFormatError, match=r"a shard is a .safetensors file in the same folder"):
        open_safetensors(folder({"a": shard}))


def test_shards_that_are_missing_linked_in_a_circle_or_folders(folder, tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"gone.safetensors does not exist"):
        open_safetensors(folder({"a": "gone.safetensors"}))
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    with pytest.raises(FileFormatError, match=r"symbolic links"):
        open_safetensors(folder({"a": "loop.safetensors"}))
    (tmp_path / "sub.safetensors").mkdir()
    with pytest.raises(FileFormatError, match=r"Is a directory"):
        open_safetensors(folder({"a": "sub.safetensors"}))


def test_an_index_that_disagrees_with_its_shards(folder):
    one, two = (pack({name: tensor("F32", [1], 0, 4)}, 4) for name in "ab")
    swapped = {"a": "two.safetensors", "b": "one.safetensors"}
    with pytest.raises(
        FileFormatError, match=r"names 2 tensors that their shards do not hold: 'a'"
    ):
        open_safetensors(folder(swapped, one=one, two=two))
    both = {"a": "one.safetensors", "b": "two.safetensors"}
    repeated = pack({"a": tensor("F32", [1], 0, 4), "b": tensor("F32", [1], 4, 8)}, 8)
    with pytest.raises(FileFormatError, match=r"repeats tensor 'a' of .*one.safetensors"):
        open_safetensors(folder(both, one=one, two=repeated))


@pytest.mark.parametrize("weight_map", [None, {}, [], "x.safetensors"])
def test_an_index_without_a_weight_map(folder, weight_map):
    with pytest.raises(FileFormatError, match=r"has no weight_map"):
        open_safetensors(folder(weight_map))


def test_an_index_that_is_no_json_or_too_large(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text("[" * 100_000)
    with pytest.raises(FileFormatError, match=r"nests too deeply"):
        open_safetensors(tmp_path)
    with index.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(FileFormatError, match=r"1,073,741,824 bytes, over the limit"):
        open_safetensors(tmp_path)
