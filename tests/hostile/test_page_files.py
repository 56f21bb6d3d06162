"""Damaged page files, broken disks and killed writers: a miss each, never a wrong page."""

import errno
import os
import random
import signal
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.pages import PAGE_BYTES, chain, data_of, get, page_paths, pages_of, put, small_store
from tonnage.kvcache.page_store import HEADER_BYTES, PageStore

FILE_BYTES = HEADER_BYTES + PAGE_BYTES
NUM_KILLS = 200
BIG_PAGE_BYTES = 256 << 10


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[PageStore, Path]:
    store = small_store(tmp_path_factory.mktemp("pages"))
    (page,) = pages_of(store, chain(1))
    assert put(store, page)
    return store, store._path(page.key, 0)


def spans(size: int) -> st.SearchStrategy[tuple[int, bytes]]:
    return st.tuples(st.integers(0, size - 1), st.binary(min_size=1, max_size=64))


@settings(max_examples=300, deadline=None)
@given(st.lists(spans(FILE_BYTES), min_size=1, max_size=4), st.integers(0, FILE_BYTES + 64))
def test_random_damage_is_a_miss(written, patches, size):
    store, path = written
    (page,) = pages_of(store, chain(1))
    assert put(store, page)
    good = path.read_bytes()
    bad = bytearray(good)
    for place, data in patches:
        bad[place : place + len(data)] = data
    bad = bad[:size] if size < FILE_BYTES else bad
    path.write_bytes(bad)
    found = get(store, page)
    assert found == (data_of(page) if bytes(bad) == good else None)
    assert path.exists() == (found is not None)


@pytest.mark.parametrize("place", range(0, FILE_BYTES, 37))
def test_one_flipped_bit_is_a_miss(written, place):
    store, path = written
    (page,) = pages_of(store, chain(1))
    assert put(store, page)
    bad = bytearray(path.read_bytes())
    bad[place] ^= 1 << place % 8
    path.write_bytes(bad)
    assert get(store, page) is None


def test_the_file_of_another_page_is_a_miss(tmp_path):
    store = small_store(tmp_path)
    first, second = pages_of(store, chain(2))
    assert put(store, first)
    assert put(store, second)
    store._path(first.key, 0).replace(store._path(second.key, 0))
    assert get(store, second) is None
    assert get(store, first) is None


def test_a_pipe_a_link_or_a_folder_in_its_place_is_a_miss(tmp_path):
    store = small_store(tmp_path)
    pages = pages_of(store, chain(3))
    assert all(put(store, page) for page in pages)
    pipe, link, folder = (store._path(page.key, 0) for page in pages)
    elsewhere = tmp_path / "elsewhere"
    link.rename(elsewhere)
    link.symlink_to(elsewhere)
    pipe.unlink()
    os.mkfifo(pipe, 0o600)
    folder.unlink()
    folder.mkdir()
    assert [get(store, page) for page in pages] == [None] * 3


def test_a_folder_that_is_a_file_is_a_miss(tmp_path):
    (tmp_path / "file").write_text("")
    store = small_store(tmp_path / "file")
    (page,) = pages_of(store, chain(1))
    assert not put(store, page)
    assert get(store, page) is None
    assert not store.has(page.key)


@pytest.mark.parametrize("call", ["open", "write", "mkdir", "utime", "fstat", "pread", "statvfs"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_is_a_miss(tmp_path, monkeypatch, call, code):
    store = small_store(tmp_path / "pages")
    first, second = pages_of(store, chain(2))
    if call in ("fstat", "pread"):
        assert put(store, first)

    def fail(*args: object, **more: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    is_put = put(store, second)
    found = get(store, first)
    monkeypatch.undo()
    assert found is None
    if not is_put:
        assert get(store, second) is None
    # Nothing half is left, and the store works again.
    assert not list((tmp_path / "pages").rglob("*.new"))
    assert put(store, second)
    assert get(store, second) == data_of(second)


def test_a_disk_that_fills_up_while_a_page_is_written(tmp_path, monkeypatch):
    store = small_store(tmp_path)
    (page,) = pages_of(store, chain(1))
    real, room = os.write, [HEADER_BYTES + 100]

    def write(fd: int, data: memoryview) -> int:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = real(fd, data[: room[0]])
        room[0] -= done
        return done

    monkeypatch.setattr(os, "write", write)
    assert not put(store, page)
    monkeypatch.undo()
    assert get(store, page) is None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def in_child(work: Callable[[], None]) -> int:
    """Return the process id of a fork that does `work` and ends."""
    with warnings.catch_warnings():
        # The child computes and writes files only; threads of earlier tests do not matter to it.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def crash_after(num_calls: int) -> None:
    """Let this process end without cleaning up at its `num_calls`-th call that changes the disk."""
    calls = [0]

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **more: object) -> object:
            calls[0] += 1
            if calls[0] > num_calls:
                os._exit(1)
            return real(*args, **more)

        return call

    for name in ("open", "write", "mkdir", "utime", "close", "replace", "rename"):
        setattr(os, name, counted(getattr(os, name)))


@pytest.mark.parametrize("num_calls", range(14))
def test_a_crash_between_any_two_calls_is_a_miss_or_the_page(tmp_path, num_calls):
    store = small_store(tmp_path / "pages")
    (page,) = pages_of(store, chain(1))

    def work() -> None:
        crash_after(num_calls)
        put(store, page)

    os.waitpid(in_child(work), 0)
    assert get(store, page) in (None, data_of(page))
    assert put(store, page)
    assert get(store, page) == data_of(page)


def test_a_power_cut_at_any_time_leaves_no_wrong_page(tmp_path, capsys):
    rng = random.Random(7)
    store = small_store(tmp_path, page_bytes=BIG_PAGE_BYTES, max_bytes=64 * BIG_PAGE_BYTES)
    pages = [page for seed in range(24) for page in pages_of(store, chain(4, seed=seed))]
    data = {page: data_of(page, BIG_PAGE_BYTES) for page in pages}

    def work() -> None:
        order = random.Random(time.monotonic_ns())
        mine = small_store(tmp_path, page_bytes=BIG_PAGE_BYTES, max_bytes=64 * BIG_PAGE_BYTES)
        while True:
            page = order.choice(pages)
            if order.random() < 0.8:
                mine._path(page.key, 0).unlink(missing_ok=True)
            put(mine, page, data[page])

    whole = torn = 0
    for _ in range(NUM_KILLS):
        child = in_child(work)
        time.sleep(rng.uniform(0.0, 0.02))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        torn += len(list(tmp_path.rglob("*.new")))
        for path in tmp_path.rglob("*.new"):
            path.unlink()
        for page in rng.sample(pages, 12):
            found = get(store, page)
            is_right = found is None or found == data[page]
            assert is_right
            whole += found is not None
    assert store.counts.damaged == 0
    with capsys.disabled():
        print(f"\n  {NUM_KILLS} kills: {whole} pages read whole, {torn} writers cut in mid-file")
    assert whole > 0
    assert torn > 0


def test_writers_and_readers_at_once_see_whole_pages(tmp_path):
    pages = pages_of(small_store(tmp_path), chain(16))
    wrong: list[object] = []

    def work(seed: int) -> None:
        # A cap of a few pages, so that files are deleted under the readers.
        store = small_store(tmp_path, max_bytes=8 * FILE_BYTES)
        rng = random.Random(seed)
        for _ in range(300):
            page = rng.choice(pages)
            if rng.random() < 0.5:
                put(store, page)
            elif get(store, page) not in (None, data_of(page)):
                wrong.append(page)
        wrong.extend([store.counts] * store.counts.damaged)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []
    assert page_paths(tmp_path)
