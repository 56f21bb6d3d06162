"""Damaged and hostile GGUF files end in one sentence, without large allocations."""

import re
import struct
import tracemalloc
from functools import partial
from pathlib import Path

import pytest
from gguf_bytes import (
    ARRAY,
    BOOL,
    F32,
    STRING,
    U8,
    U32,
    U64,
    array,
    gguf,
    small_gguf,
    string,
    u32,
    u64,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.refusals import assert_refused
from tonnage.core.errors import (
    FileFormatError,
    ModelNotFoundError,
    TonnageError,
    UnsupportedTypeError,
)
from tonnage.formats.gguf import GgufArray, GgufFile

HUGE = (1 << 64) - 1
SMALL = small_gguf()


def read_everything(path: Path) -> None:
    with GgufFile.open(path) as file:
        for value in file.metadata.values():
            if isinstance(value, GgufArray):
                assert len(value.to_list()) == value.count
        for name, entry in file.catalog.tensors.items():
            with file.tensor_buffer(name) as raw:
                assert len(raw) == entry.nbytes == entry.format.nbytes(entry.shape)


def outcome(path: Path) -> str:
    try:
        read_everything(path)
    except TonnageError as error:
        return str(error)
    return "Read."


@pytest.fixture
def refused(tmp_path):
    return partial(assert_refused, read_everything, tmp_path / "bad.gguf")


def test_the_small_file_is_valid(tmp_path):
    path = tmp_path / "small.gguf"
    path.write_bytes(SMALL)
    read_everything(path)


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "cut.gguf"
    needed = len(SMALL) - 160 + 96 + 6
    for size in range(needed):
        path.write_bytes(SMALL[:size])
        with pytest.raises(FileFormatError, match=r"download it again|at most") as caught:
            GgufFile.open(path)
        assert size < 24 or re.search(rf"\b{size:,}\b", str(caught.value))
    path.write_bytes(SMALL[:needed])
    read_everything(path)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_flipped_bytes_never_crash(tmp_path, data):
    raw = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "flipped.gguf"
    path.write_bytes(raw)
    assert outcome(path).endswith(".")


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, len(SMALL) - 8), st.sampled_from([HUGE, 1 << 63, 1 << 32, 1 << 20, 0]))
def test_absurd_numbers_anywhere_never_crash(tmp_path, at, number):
    path = tmp_path / "absurd.gguf"
    path.write_bytes(SMALL[:at] + u64(number) + SMALL[at + 8 :])
    assert outcome(path).endswith(".")


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path, raw):
    path = tmp_path / "random.gguf"
    path.write_bytes(raw)
    with pytest.raises(FileFormatError):
        GgufFile.open(path)


def test_missing_empty_and_unreadable_files(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"does not exist"):
        GgufFile.open(tmp_path / "none.gguf")
    with pytest.raises(FileFormatError, match=r"cannot be read: Is a directory"):
        GgufFile.open(tmp_path)
    with pytest.raises(FileFormatError, match=r"cannot be read"):
        GgufFile.open("nul\0name")
    (tmp_path / "empty.gguf").touch()
    with pytest.raises(FileFormatError, match=r"is empty"):
        GgufFile.open(tmp_path / "empty.gguf")
    (tmp_path / "loop.gguf").symlink_to("loop.gguf")
    with pytest.raises(FileFormatError, match=r"symbolic links"):
        GgufFile.open(tmp_path / "loop.gguf")


def test_magic_and_version(refused):
    refused(b"PK\x03\x04" + SMALL[4:], r"starts with b'PK\\x03\\x04'")
    refused(gguf([], [], version=1), "has GGUF version 1; 2 and 3")
    refused(gguf([], [], version=4), "has GGUF version 4; 2 and 3")
    refused(gguf([], [], version=3 << 24), "big-endian")


def test_version_2_is_read(tmp_path):
    path = tmp_path / "v2.gguf"
    path.write_bytes(gguf([("a", U8, b"\x07")], [], version=2))
    with GgufFile.open(path) as file:
        assert file.version == 2
        assert file.metadata == {"a": 7}


def test_absurd_counts(refused):
    refused(gguf([], [], num_tensors=HUGE), r"states 18,446,744,073,709,551,615 tensors.*at most 0")
    refused(gguf([], [], num_pairs=1 << 40), r"states 1,099,511,627,776 metadata pairs")
    big = bytes(2_000_000)
    refused(gguf([], [], big, num_pairs=70_000), r"hold at most 65,536")


def test_absurd_lengths_allocate_nothing(tmp_path):
    files = {
        "string": gguf([("a", STRING, u64(HUGE))], []),
        "strings": gguf([("a", ARRAY, array(STRING, HUGE // 8, b""))], []),
        "floats": gguf([("a", ARRAY, array(F32, 1 << 61, b""))], []),
        "key": b"GGUF" + u32(3) + u64(0) + u64(1) + u64(1 << 62) + bytes(64),
        "tensor": gguf([], [("a", (1 << 62, 1 << 62, 1 << 62, 1 << 62), 0, 0)]),
    }
    for name, data in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        tracemalloc.start()
        with pytest.raises(FileFormatError, match=r"download it again"):
            GgufFile.open(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100_000, name


def test_strings_beyond_the_limits(refused):
    refused(gguf([(b"k" * 65_536, U8, b"\x01")], []), r"65,536 bytes.*limit of 65,535")
    refused(gguf([], [(b"n" * 70_000, (1,), 0, 0)], bytes(4)), r"70,000 bytes.*limit of 65,535")


def test_string_array_that_leaves_the_file(refused):
    tokens = array(STRING, 4, string("ab") + u64(500) + bytes(40))
    refused(gguf([("a", ARRAY, tokens)], []), r"inside string 1 of 4 in the value of 'a'")


def test_bad_utf8(refused):
    refused(gguf([(b"\xff\xfe", U8, b"\x01")], []), r"not UTF-8 where metadata key 0 belongs")
    refused(gguf([], [(b"\x80", (1,), 0, 0)], bytes(4)), r"not UTF-8 where the name of tensor 0")
    tokens = array(STRING, 2, string("ok") + string(b"\xed\xa0\x80"))
    refused(gguf([("a", ARRAY, tokens)], []), r"String 1 of array 'a' is not valid UTF-8")


def test_bytes_of_a_vocabulary_that_is_not_utf8(tmp_path):
    tokens = array(STRING, 2, string("ok") + string(b"\xed\xa0\x80"))
    path = tmp_path / "bytes.gguf"
    path.write_bytes(gguf([("a", ARRAY, tokens), ("b", ARRAY, array(U8, 1, b"\x01"))], []))
    with GgufFile.open(path) as file:
        first, second = file.metadata["a"], file.metadata["b"]
        assert isinstance(first, GgufArray)
        assert isinstance(second, GgufArray)
        assert first.to_bytes_list() == [b"ok", b"\xed\xa0\x80"]
        with pytest.raises(FileFormatError, match="holds uint8 elements where strings belong"):
            second.to_bytes_list()


def test_names_met_twice(refused):
    refused(gguf([("a", U8, b"\x01")] * 2, []), r"metadata key 'a' twice")
    rows = [("t", (1,), 0, 0), ("t", (1,), 0, 32)]
    refused(gguf([], rows, bytes(64)), r"two tensors named 't'")


def test_value_types(refused):
    refused(gguf([("a", 13, b"\x01")], []), r"the value type 13, but GGUF has only 0 to 12")
    refused(gguf([("a", BOOL, b"\x02")], []), r"the bool 2, which is neither")
    refused(gguf([("a", ARRAY, array(BOOL, 2, b"\x01\x02"))], []), r"a bool that is neither")
    nested = array(ARRAY, 1, array(U8, 1, b"\x01"))
    refused(gguf([("a", ARRAY, nested)], []), r"has arrays inside array 'a'")
    refused(gguf([("a", ARRAY, array(99, 1, b""))], []), r"unknown type 99 inside array 'a'")


@pytest.mark.parametrize("value", [0, 3, 48, (1 << 32) - 1])
def test_alignment_is_a_power_of_two(refused, value):
    refused(gguf([("general.alignment", U32, u32(value))], []), rf"alignment {value}, but")


def test_alignment_of_a_wrong_type(refused):
    refused(gguf([("general.alignment", STRING, string("32"))], []), r"alignment '32', but")
    refused(gguf([("general.alignment", BOOL, b"\x01")], []), r"alignment True, but")


def test_alignment_moves_the_data(tmp_path):
    pairs = [("general.alignment", U64, u64(256))]
    rows = [("a", (2,), 0, 0), ("b", (1,), 0, 256)]
    data = struct.pack("<2f", 1.0, 2.0).ljust(256, b"\0") + struct.pack("<f", 3.0)
    path = tmp_path / "aligned.gguf"
    path.write_bytes(gguf(pairs, rows, data, alignment=256))
    with GgufFile.open(path) as file:
        assert file.catalog.tensors["a"].offset == 256
        with file.tensor_buffer("b") as raw:
            assert struct.unpack("<f", raw) == (3.0,)


def test_dimensions(refused):
    refused(gguf([], [("t", (1,) * 5, 0, 0)], bytes(4)), r"'t' 5 dimensions, but GGUF allows 4")
    refused(gguf([], [("t", (4, 0), 0, 0)], bytes(4)), r"'t' the empty shape \(4, 0\)")
    refused(gguf([], [("t", (33,), 2, 0)], bytes(99)), r"rows of 33 elements.*block of 32")
    refused(gguf([], [("t", (), 2, 0)], bytes(99)), r"rows of 1 elements.*block of 32")


def test_a_tensor_without_dimensions_is_one_float(tmp_path):
    path = tmp_path / "scalar.gguf"
    path.write_bytes(gguf([], [("t", (), 0, 0)], bytes(4)))
    with GgufFile.open(path) as file:
        assert file.catalog.tensors["t"].shape == ()
        assert file.catalog.tensors["t"].nbytes == 4


def test_ranges(refused):
    refused(gguf([], [("t", (8,), 0, 5)], bytes(64)), r"offset 5, which is not a multiple of .* 32")
    refused(gguf([], [("t", (8,), 0, HUGE - 31)], bytes(64)), r"ends at byte 128 but tensor 't'")
    refused(gguf([], [("t", (17,), 0, 0)], bytes(64)), r"ends at byte 128 .* bytes up to 132")
    rows = [("second", (8,), 0, 32), ("first", (9,), 0, 0)]
    refused(gguf([], rows, bytes(64)), r"'first' ends at byte \d+, but 'second' starts at")
    same = [("one", (8,), 0, 0), ("two", (8,), 0, 0)]
    refused(gguf([], same, bytes(64)), r"overlapping tensors")


def test_unsupported_types_are_named_together(refused):
    rows = [("a", (256,), 15, 0), ("b", (256,), 31, 0), ("c", (256,), 15, 0), ("d", (64,), 26, 0)]
    refused(
        gguf([], rows, bytes(64)),
        r"4 tensors of types .* Q8_K \(2\), Q4_0_4_4 \(1\), I32 \(1\); the first is 'a'",
        UnsupportedTypeError,
    )
    refused(
        gguf([], [("a", (256,), 0xDEAD, 0)], bytes(64)),
        r"unknown type number 57005 \(1\)",
        UnsupportedTypeError,
    )


def test_a_description_need_not_be_utf_8(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(gguf([("general.name", STRING, string(b"t\xe9ny \xc3\x28"))], []))
    with GgufFile.open(path) as file:
        assert file.metadata["general.name"] == "t\ufffdny \ufffd("


def test_control_characters_stay_out_of_messages(refused):
    refused(gguf([("\x1b[2J" * 50, 77, b"")], []), r"\\x1b")


def test_strings_of_a_header_share_a_bound(refused, monkeypatch):
    monkeypatch.setattr("tonnage.formats.gguf_cursor.MAX_STRING_BYTES", 100)
    pairs = [(f"k{index}", STRING, string("x" * 40)) for index in range(3)]
    refused(gguf(pairs, []), "40 bytes for the value of 'k2'")
    rows = [("n" * 60, (1,), 0, 0), ("m" * 60, (1,), 0, 32)]
    refused(gguf([], rows, bytes(64)), "60 bytes for the name of tensor 1")
