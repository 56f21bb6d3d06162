"""Pages of the prefix cache as files: found again by what they depend on, within a byte cap."""

import os
import stat
from types import SimpleNamespace

import pytest

from support.pages import IDENTITY, chain, data_of, get, page_paths, pages_of, put, small_store
from tonnage.kvcache.page_store import HEADER_BYTES, PageStore


def test_what_is_put_is_found_by_another_process_too(tmp_path):
    store = small_store(tmp_path / "pages")
    pages = pages_of(store, chain(3))
    assert get(store, pages[0]) is None
    for page in pages:
        assert put(store, page)
    fresh = small_store(tmp_path / "pages")
    assert [get(fresh, page) for page in pages_of(fresh, chain(3))] == [
        data_of(page) for page in pages
    ]
    assert (fresh.counts.hits, store.counts.misses, store.counts.written) == (3, 1, 3)


def test_only_full_pages_have_keys(tmp_path):
    store = small_store(tmp_path)
    assert pages_of(store, []) == pages_of(store, list(range(63))) == []
    assert pages_of(store, list(range(64))) == pages_of(store, list(range(127)))
    assert len(pages_of(store, list(range(128)))) == 2


def test_a_key_depends_on_all_that_comes_before(tmp_path):
    store = small_store(tmp_path)
    pages = pages_of(store, chain(3))
    for place in (0, 63, 64, 127):
        changed = chain(3)
        changed[place] += 1
        other = pages_of(store, changed)
        same = [a.key == b.key for a, b in zip(pages, other, strict=True)]
        assert same == [place >= 64, False, False]
    assert pages_of(store, chain(3)[64:])[0].key != pages[1].key


@pytest.mark.parametrize("salts", [("", "a"), ("a", "b"), ("\0", "")])
def test_tenants_share_nothing(tmp_path, salts):
    store = small_store(tmp_path)
    (one,), (other,) = (pages_of(store, chain(1), salt) for salt in salts)
    assert put(store, one)
    assert get(store, other) is None
    assert get(store, one) == data_of(one)


def test_another_identity_shares_nothing(tmp_path):
    store = small_store(tmp_path)
    other = PageStore(tmp_path, bytes(32), (640, 64), 1 << 20)
    (page,), (same_tokens,) = pages_of(store, chain(1)), pages_of(other, chain(1))
    assert put(store, page)
    assert get(other, same_tokens) is None
    # Not even under the same name.
    assert get(other, page) is None
    assert other.counts.damaged == 1


def test_groups_are_files_of_their_own(tmp_path):
    store = small_store(tmp_path)
    (page,) = pages_of(store, chain(1))
    assert put(store, page, b"w" * 64, 1)
    assert get(store, page, 0) is None
    assert get(store, page, 1) == b"w" * 64
    assert (store.has(page.key, 0), store.has(page.key, 1)) == (False, True)


def test_wrong_sizes_are_mistakes_of_the_caller(tmp_path):
    store = small_store(tmp_path)
    (page,) = pages_of(store, chain(1))
    with pytest.raises(ValueError, match="640 bytes, not 3"):
        put(store, page, b"abc")
    with pytest.raises(ValueError, match="4 bytes, not 32"):
        PageStore(tmp_path, b"1234", (1,), 1)


def test_files_are_the_users_alone(tmp_path):
    store = small_store(tmp_path / "a" / "pages")
    (page,) = pages_of(store, chain(1))
    assert put(store, page)
    (path,) = page_paths(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a" / "pages").stat().st_mode) == 0o700
    path.chmod(0o666)
    assert get(store, page) is None


def test_folders_are_the_users_alone_too(tmp_path):
    store = small_store(tmp_path / "pages")
    (page,) = pages_of(store, chain(1))
    before = os.umask(0)
    try:
        assert put(store, page)
    finally:
        os.umask(before)
    (path,) = page_paths(tmp_path)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("place", [0, 8, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 639])
def test_a_byte_that_changed_is_damage(tmp_path, place):
    store = small_store(tmp_path)
    first, second = pages_of(store, chain(2))
    for number, page in enumerate((first, second), start=1):
        assert put(store, page)
        (path,) = page_paths(tmp_path)
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)
        assert get(store, page) is None
        assert not path.exists()
        assert (store.counts.damaged, store.counts.misses, store.counts.hits) == (number, number, 0)
        assert get(store, page) is None
        store.counts.misses -= 1
        assert store.counts.damaged == number, "what is not there is not damaged"


@pytest.mark.parametrize("change", [lambda data: data + b"x", lambda data: data[:-1]])
def test_a_file_of_another_size_is_damage(tmp_path, change):
    store = small_store(tmp_path)
    (page,) = pages_of(store, chain(1))
    assert put(store, page)
    (path,) = page_paths(tmp_path)
    path.write_bytes(change(path.read_bytes()))
    assert not store.has(page.key)
    assert get(store, page) is None
    assert store.counts.damaged == 1


def test_links_are_not_followed(tmp_path):
    store = small_store(tmp_path / "pages")
    (page,) = pages_of(store, chain(1))
    assert put(store, page)
    (path,) = page_paths(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert not store.has(page.key)
    assert get(store, page) is None
    assert elsewhere.exists()


def test_what_is_not_ours_is_neither_counted_nor_deleted(tmp_path):
    size = HEADER_BYTES + 640
    folder, outside = tmp_path / "pages", tmp_path / "outside"
    outside.mkdir()
    large = outside / "old.page"
    with large.open("wb") as file:
        file.truncate(1 << 20)
    os.utime(large, ns=(10**9, 10**9))
    folder.mkdir()
    (folder / "ab").symlink_to(outside)  # a folder of pages that somebody else may have made
    (folder / "cd").mkdir()
    (folder / "cd" / "one.page").symlink_to(large)
    for number in range(20):
        (folder / f"notes-{number}").write_bytes(bytes(size))
        (folder / f"x{number:03}").mkdir()
    link_bytes = (folder / "cd" / "one.page").lstat().st_size
    store = small_store(folder, max_bytes=8 * size + link_bytes)
    pages = [pages_of(store, chain(1, seed=seed))[0] for seed in range(9)]
    for page in pages[:8]:
        assert put(small_store(folder, max_bytes=8 * size + link_bytes), page)
    assert len(page_paths(folder)) == 8 + 1, "all fit beside the link itself"
    fresh = small_store(folder, max_bytes=8 * size + link_bytes)
    assert put(fresh, pages[8])
    assert fresh.counts.evicted > 0
    assert large.stat().st_size == 1 << 20
    assert len([one for one in folder.iterdir() if one.name.startswith("notes")]) == 20


def test_a_sixteenth_of_the_cap_is_freed_at_once(tmp_path):
    """Of 32 pages two, beside the one that is needed; or each page would scan the folder."""
    size = HEADER_BYTES + 640
    store = small_store(tmp_path, max_bytes=32 * size)
    pages = [pages_of(store, chain(1, seed=seed))[0] for seed in range(36)]
    for page in pages[:31]:
        assert put(store, page)
    # Another process, which has to look first, finds that one more fits.
    store = small_store(tmp_path, max_bytes=32 * size)
    for page in pages[31:32]:
        assert put(store, page)
    assert len(page_paths(tmp_path)) == 32
    assert store.counts.evicted == 0
    for number, page in enumerate(pages[32:35]):
        assert put(store, page)
        assert len(page_paths(tmp_path)) == 30 + number
        assert store.counts.evicted == 3


def test_the_cap_holds_and_the_oldest_go(tmp_path):
    size = HEADER_BYTES + 640
    store = small_store(tmp_path, max_bytes=10 * size)
    pages = [pages_of(store, chain(1, seed=seed))[0] for seed in range(40)]
    for age, page in enumerate(pages):
        assert put(store, page)
        os.utime(store._path(page.key, 0), ns=(age * 10**9, age * 10**9))
        assert sum(path.stat().st_size for path in page_paths(tmp_path)) <= 10 * size
    kept = [get(store, page) is not None for page in pages]
    assert kept[:30] == [False] * 30
    assert kept[-8:] == [True] * 8
    assert store.counts.evicted == 40 - sum(kept)


def test_a_page_that_is_used_stays(tmp_path):
    size = HEADER_BYTES + 640
    store = small_store(tmp_path, max_bytes=4 * size)
    pages = [pages_of(store, chain(1, seed=seed))[0] for seed in range(12)]
    for age, page in enumerate(pages):
        assert put(store, page)
        os.utime(store._path(page.key, 0), ns=(age * 10**9, age * 10**9))
        assert get(store, pages[0]) == data_of(pages[0])
    assert get(store, pages[5]) is None


def test_a_chain_is_shortened_from_its_end(tmp_path):
    store = small_store(tmp_path, max_bytes=8 * (HEADER_BYTES + 640))
    pages = pages_of(store, chain(8))
    assert all(put(store, page) for page in pages)
    (last,) = pages_of(store, chain(1, seed=9))
    assert put(store, last)
    found = [get(store, page) is not None for page in pages]
    assert found == sorted(found, reverse=True)
    assert 4 <= sum(found) < 8


def test_a_page_above_the_cap_is_not_kept(tmp_path):
    store = small_store(tmp_path, max_bytes=HEADER_BYTES + 639)
    (page,) = pages_of(store, chain(1))
    assert not put(store, page)
    assert page_paths(tmp_path) == []


def test_the_disk_keeps_what_it_must_keep_free(tmp_path):
    disk = os.statvfs(tmp_path)
    everything = disk.f_blocks * disk.f_frsize
    store = PageStore(tmp_path, IDENTITY, (640, 64), 1 << 20, keep_free_bytes=everything)
    (page,) = pages_of(store, chain(1))
    assert not put(store, page)
    assert store.counts.not_written == 1


@pytest.mark.parametrize(("keep_free", "is_kept"), [(48, True), (49, False)])
def test_a_page_is_kept_where_the_disk_has_its_bytes_and_what_stays_free(
    tmp_path, monkeypatch, keep_free, is_kept
):
    """Of 12 blocks of 100 bytes a page with its header takes 1,152."""
    asked = []

    def statvfs(place):
        asked.append(place)
        return SimpleNamespace(f_bavail=12, f_frsize=100)

    monkeypatch.setattr("tonnage.kvcache.page_store.os.statvfs", statvfs)
    store = PageStore(
        tmp_path / "not" / "made", IDENTITY, (640, 64), 1 << 20, keep_free_bytes=keep_free
    )
    (page,) = pages_of(store, chain(1))
    assert put(store, page) == is_kept
    assert asked == [tmp_path], "the disk of the nearest folder that is there"
    assert (store.counts.written, store.counts.not_written) == (is_kept, not is_kept)


def test_pages_of_other_processes_count(tmp_path):
    size = HEADER_BYTES + 640
    stores = [small_store(tmp_path, max_bytes=32 * size) for _ in range(2)]
    for seed in range(100):
        for place, store in enumerate(stores):
            (page,) = pages_of(store, chain(1, seed=2 * seed + place))
            assert put(store, page)
    # Each may have written a sixteenth that the other has not seen.
    assert len(page_paths(tmp_path)) <= 32 + 2 * 2


def test_what_a_killed_writer_left_is_deleted_later(tmp_path):
    store = small_store(tmp_path)
    (page,) = pages_of(store, chain(1))
    shard = tmp_path / page.key.hex()[:2]
    shard.mkdir()
    old, young = shard / ".a.1.1.new", shard / ".b.1.1.new"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, ns=(10**9, 10**9))
    assert put(store, page)
    assert (old.exists(), young.exists()) == (False, True)


def test_what_cannot_be_deleted_does_not_stop_the_rest(tmp_path):
    size = HEADER_BYTES + 640
    store = small_store(tmp_path, max_bytes=4 * size)
    pages = [pages_of(store, chain(1, seed=seed))[0] for seed in range(12)]
    # A folder is as good as a file of somebody else's: unlink refuses both.
    stubborn = tmp_path / "ab" / "not-ours.page"
    stubborn.mkdir(parents=True)
    os.utime(stubborn, ns=(10**9, 10**9))
    kept_bytes = stubborn.stat().st_size
    store = small_store(tmp_path, max_bytes=4 * size + kept_bytes)
    assert all(put(store, page) for page in pages)
    assert store.counts.evicted > 0
    assert len(page_paths(tmp_path)) <= 5
