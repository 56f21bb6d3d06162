"""GGUF models in several files: written by the `gguf` package, and by hand where they are wrong."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tonnage.core.errors import FileFormatError, ModelNotFoundError, TonnageError
from tonnage.formats.gguf import GgufFile
from tonnage.formats.gguf_parts import MAX_PARTS, first_parts, part_names

NAMES = [f"m-{i:05}-of-00003.gguf" for i in (1, 2, 3)]


def write_parts(folder: Path, model: str = "m", *, num_tensors: int = 5) -> list[Path]:
    """Write a model of `num_tensors` vectors, two in a part, and return its parts."""
    writer = GGUFWriter(folder / f"{model}.gguf", "llama", split_max_tensors=2)
    writer.add_name(model)
    writer.add_array("tokens", ["a", "b"])
    for i in range(num_tensors):
        writer.add_tensor(f"t{i}", np.full(8, i, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob(f"{model}-*.gguf"))


@pytest.fixture
def parts(tmp_path) -> list[Path]:
    found = write_parts(tmp_path)
    assert [path.name for path in found] == NAMES
    return found


@pytest.mark.parametrize("given", [0, 1, 2])
def test_any_part_opens_the_whole(parts, given):
    with GgufFile.open(parts[given]) as file:
        assert file.path == str(parts[0])
        assert file.metadata["general.name"] == "m"
        assert file.metadata["tokens"].to_list() == ["a", "b"]
        assert file.catalog.files == tuple(map(str, parts))
        assert file.catalog.file_bytes == sum(path.stat().st_size for path in parts)
        assert list(file.catalog.tensors) == [f"t{i}" for i in range(5)]
        for i in range(5):
            assert file.catalog.tensors[f"t{i}"].file == str(parts[i // 2])
            with file.tensor_buffer(f"t{i}") as raw:
                assert struct.unpack("<8f", raw) == (i,) * 8


def test_first_part_may_have_no_tensor(tmp_path):
    writer = GGUFWriter(tmp_path / "m.gguf", "llama", split_max_tensors=2, small_first_shard=True)
    for i in range(3):
        writer.add_tensor(f"t{i}", np.full(8, i, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GgufFile.open(min(tmp_path.iterdir())) as file:
        assert list(file.catalog.tensors) == ["t0", "t1", "t2"]


def test_opening_parts_leaves_no_descriptor(parts, tmp_path):
    (tmp_path / "other").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    GgufFile.open(parts[1]).close()
    parts[2].write_bytes(write_parts(tmp_path / "other", num_tensors=6)[2].read_bytes())
    with pytest.raises(FileFormatError):
        GgufFile.open(parts[0])
    assert len(os.listdir("/proc/self/fd")) == before


def test_missing_parts_are_named(parts):
    parts[0].unlink()
    parts[2].unlink()
    missing = rf"of which 2 are not beside it: {NAMES[0]}, {NAMES[2]};"
    with pytest.raises(ModelNotFoundError, match=missing):
        GgufFile.open(parts[1])


def test_a_part_under_another_name_is_refused(parts, tmp_path):
    for name in ("whole.gguf", "m-00001-of-00002.gguf"):
        moved = parts[0].rename(tmp_path / name)
        with pytest.raises(FileFormatError, match=r"is one of 3 parts.* -00001-of-00003\.gguf"):
            GgufFile.open(moved)
        moved.rename(parts[0])


def test_parts_in_the_wrong_order_are_refused(parts):
    raw = [path.read_bytes() for path in parts]
    parts[1].write_bytes(raw[2])
    parts[2].write_bytes(raw[1])
    with pytest.raises(FileFormatError, match=r"00002-of-.* states split.no 2, where part 2 .* 1;"):
        GgufFile.open(parts[0])
    parts[1].write_bytes(raw[0])
    with pytest.raises(FileFormatError, match=r"split.no 0, where part 2 of this model has 1"):
        GgufFile.open(parts[0])


def test_a_part_of_another_model_is_refused(parts, tmp_path):
    (tmp_path / "other").mkdir()
    longer = write_parts(tmp_path / "other", "m", num_tensors=6)
    raw = parts[2].read_bytes()
    parts[2].write_bytes(longer[2].read_bytes())
    with pytest.raises(FileFormatError, match=r"split.tensors.count 6, where .* has 5"):
        GgufFile.open(parts[0])
    parts[2].write_bytes(raw.replace(b"t4", b"t1"))
    with pytest.raises(FileFormatError, match=r"00003-of-.* holds tensor 't1', as .*00001-of-"):
        GgufFile.open(parts[0])


def test_a_part_that_is_no_part_is_refused(parts):
    parts[1].write_bytes(parts[1].read_bytes().replace(b"split.count", b"split.kount"))
    with pytest.raises(FileFormatError, match=r"states split.count None, where part 2 .* has 3"):
        GgufFile.open(parts[0])


def test_tensors_are_counted(parts):
    for path in parts:
        key = b"split.tensors.count" + struct.pack("<I", 5)
        raw = path.read_bytes()
        path.write_bytes(raw.replace(key + struct.pack("<i", 5), key + struct.pack("<i", 7)))
    with pytest.raises(
        FileFormatError, match=r"states split.tensors.count 7, but its 3 parts hold"
    ):
        GgufFile.open(parts[0])


def test_hostile_counts_are_refused(parts):
    for count in (MAX_PARTS + 1, 65_535):
        key = b"split.count" + struct.pack("<I", 2)
        raw = parts[0].read_bytes()
        parts[0].write_bytes(raw.replace(key + b"\x03\x00", key + struct.pack("<H", count)))
        with pytest.raises(
            FileFormatError, match=f"split.count {count}, where a model has at most"
        ):
            GgufFile.open(parts[0])
        parts[0].write_bytes(raw)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 2), st.data())
def test_a_changed_byte_ends_in_a_sentence_or_in_tensors_of_the_right_size(parts, which, data):
    raw = parts[which].read_bytes()
    at, byte = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 255))
    parts[which].write_bytes(raw[:at] + bytes([byte]) + raw[at + 1 :])
    said = outcome(parts[0])
    parts[which].write_bytes(raw)
    assert said.endswith(".")
    assert said.isprintable()


def outcome(path: Path) -> str:
    try:
        with GgufFile.open(path) as file:
            for name, entry in file.catalog.tensors.items():
                with file.tensor_buffer(name) as view:
                    assert len(view) == entry.nbytes == entry.format.nbytes(entry.shape)
    except TonnageError as error:
        return str(error)
    return "Read."


def test_names_of_parts():
    assert part_names("m-00002-of-00003.gguf") == tuple(NAMES)
    assert part_names("m-00001-of-00001.gguf") == ("m-00001-of-00001.gguf",)
    for alone in ("m.gguf", "m-00004-of-00003.gguf", "m-00000-of-00003.gguf", "m-1-of-3.gguf",
                  "m-00001-of-99999.gguf", "m-00001-of-00003.gguf.tmp"):  # fmt: skip
        assert part_names(alone) == (alone,)


def test_later_parts_are_left_out_of_choices():
    names = ["q8.gguf", *(f"q4/{name}" for name in NAMES)]
    assert first_parts(names) == [f"q4/{NAMES[0]}", "q8.gguf"]
