"""Identities of models: the same while no file was touched, another one after."""

import os
import shutil
from pathlib import Path

import pytest

from tonnage.store.audits import identity
from tonnage.store.identity import checkpoint_identity, strict_identity

SIZE = 1 << 20


@pytest.fixture
def model(tmp_path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(bytes(SIZE))
    return path


def restore_times(path: Path, state: os.stat_result) -> None:
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_reading_changes_nothing(model):
    before = strict_identity(model)
    model.read_bytes()
    assert strict_identity(model) == before


@pytest.mark.parametrize("place", [0, SIZE // 2 + 3, SIZE - 1])
def test_a_changed_byte_shows_though_size_and_time_are_as_before(model, place):
    before, state = strict_identity(model), model.stat()
    with model.open("r+b") as stream:
        stream.seek(place)
        stream.write(b"x")
    restore_times(model, state)
    assert model.stat().st_mtime_ns == state.st_mtime_ns
    assert strict_identity(model) != before


def test_a_copy_in_its_place_shows(model, tmp_path):
    before = strict_identity(model)
    shutil.copy2(model, tmp_path / "copy")
    (tmp_path / "copy").replace(model)
    assert strict_identity(model) != before


def test_a_pulled_file_is_its_checksum_until_it_is_written_to(model):
    record = model.with_name("m.gguf.sha256")
    record.write_text(f"{'5' * 64}  m.gguf\n")
    assert strict_identity(model) == f"sha256:{'5' * 64}"
    later = record.stat().st_mtime_ns + 1
    os.utime(model, ns=(later, later))
    assert strict_identity(model).startswith("m.gguf:")


def test_a_pulled_file_that_was_written_to_shows_though_its_time_is_as_before(model):
    state = model.stat()
    record = model.with_name("m.gguf.sha256")
    record.write_text(f"{'5' * 64}  m.gguf\n")
    with model.open("r+b") as stream:
        stream.write(b"x")
    restore_times(model, state)
    # The clock of file times may not have moved on since the record was written.
    os.utime(record, ns=(state.st_mtime_ns, state.st_mtime_ns))
    assert strict_identity(model).startswith("m.gguf:")


def test_a_folder_is_its_settings_and_weights(tmp_path):
    for name in ("config.json", "model.safetensors", "README.md"):
        (tmp_path / name).write_bytes(b"x")
    before = strict_identity(tmp_path)
    (tmp_path / "README.md").write_bytes(b"y")
    assert strict_identity(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"y")
    assert strict_identity(tmp_path) != before


def test_a_model_in_parts_is_all_of_them(tmp_path):
    first, second = (tmp_path / f"m-0000{i}-of-00002.gguf" for i in (1, 2))
    for part in (first, second):
        part.write_bytes(bytes(SIZE))
    before = strict_identity(first), identity(first), checkpoint_identity(first, {})
    assert (strict_identity(second), identity(second), checkpoint_identity(second, {})) == before
    second.write_bytes(bytes([1]) * (SIZE + 1))
    after = strict_identity(first), identity(first), checkpoint_identity(first, {})
    assert all(old != new for old, new in zip(before, after, strict=True))
    (tmp_path / "elsewhere").mkdir()
    for part in (first, second):
        shutil.copy2(part, tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / second.name
    assert checkpoint_identity(moved, {}) == checkpoint_identity(first, {})


def test_a_model_that_is_gone_has_none(tmp_path):
    with pytest.raises(OSError, match="none"):
        strict_identity(tmp_path / "none.gguf")
