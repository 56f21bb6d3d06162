"""Pages of the prefix cache as files: found again by what they depend on, within a byte cap."""

import os
import stat

import pytest

from support.pages import IDENTITY, chain, page_of, page_paths, small_store
from tonnage.memory.page_store import HEADER_BYTES, PageStore


def test_what_is_put_is_found_by_another_process_too(tmp_path):
    store = small_store(tmp_path / "pages")
    keys = store.keys_of(chain(3))
    assert store.get(keys[0]) is None
    for key in keys:
        assert store.put(key, page_of(key))
    fresh = small_store(tmp_path / "pages")
    assert [fresh.get(key) for key in fresh.keys_of(chain(3))] == [page_of(key) for key in keys]
    assert (fresh.counts.hits, store.counts.misses, store.counts.written) == (3, 1, 3)


def test_only_full_pages_have_keys(tmp_path):
    store = small_store(tmp_path)
    assert store.keys_of([]) == store.keys_of(range(63)) == []
    assert store.keys_of(range(64)) == store.keys_of(range(127))
    assert len(store.keys_of(range(128))) == 2


def test_a_key_depends_on_all_that_comes_before(tmp_path):
    store = small_store(tmp_path)
    keys = store.keys_of(chain(3))
    for place in (0, 63, 64, 127):
        changed = chain(3)
        changed[place] += 1
        other = store.keys_of(changed)
        same = [a.digest == b.digest for a, b in zip(keys, other, strict=True)]
        assert same == [place >= 64, False, False]
    assert store.keys_of(chain(3)[64:])[0].digest != keys[1].digest


@pytest.mark.parametrize("salts", [(b"", b"a"), (b"a", b"b"), (b"\0" * 32, b"")])
def test_tenants_share_nothing(tmp_path, salts):
    store = small_store(tmp_path)
    (one,), (other,) = (store.keys_of(chain(1), salt) for salt in salts)
    assert store.put(one, page_of(one))
    assert store.get(other) is None
    assert store.get(one) == page_of(one)


def test_another_identity_shares_nothing(tmp_path):
    store = small_store(tmp_path)
    other = PageStore(tmp_path, bytes(32), (640, 64), 1 << 20)
    (key,), (same_tokens,) = store.keys_of(chain(1)), other.keys_of(chain(1))
    assert store.put(key, page_of(key))
    assert other.get(same_tokens) is None
    # Not even under the same name.
    assert other.get(key) is None
    assert other.counts.damaged == 1


def test_groups_are_files_of_their_own(tmp_path):
    store = small_store(tmp_path)
    (key,) = store.keys_of(chain(1))
    assert store.put(key, b"w" * 64, 1)
    assert store.get(key, 0) is None
    assert store.get(key, 1) == b"w" * 64
    assert (store.has(key, 0), store.has(key, 1)) == (False, True)


def test_wrong_sizes_are_mistakes_of_the_caller(tmp_path):
    store = small_store(tmp_path)
    (key,) = store.keys_of(chain(1))
    with pytest.raises(ValueError, match="640 bytes, not 3"):
        store.put(key, b"abc")
    with pytest.raises(ValueError, match="4 bytes, not 32"):
        PageStore(tmp_path, b"1234", (1,), 1)


def test_files_are_the_users_alone(tmp_path):
    store = small_store(tmp_path / "a" / "pages")
    (key,) = store.keys_of(chain(1))
    assert store.put(key, page_of(key))
    (path,) = page_paths(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a" / "pages").stat().st_mode) == 0o700
    path.chmod(0o666)
    assert store.get(key) is None


def test_the_cap_holds_and_the_oldest_go(tmp_path):
    size = HEADER_BYTES + 640
    store = small_store(tmp_path, max_bytes=10 * size)
    keys = [store.keys_of(chain(1, seed=seed))[0] for seed in range(40)]
    for age, key in enumerate(keys):
        assert store.put(key, page_of(key))
        os.utime(store._path(key, 0), ns=(age * 10**9, age * 10**9))
        assert sum(path.stat().st_size for path in page_paths(tmp_path)) <= 10 * size
    kept = [store.get(key) is not None for key in keys]
    assert kept[:30] == [False] * 30
    assert kept[-8:] == [True] * 8
    assert store.counts.evicted == 40 - sum(kept)


def test_a_page_that_is_used_stays(tmp_path):
    size = HEADER_BYTES + 640
    store = small_store(tmp_path, max_bytes=4 * size)
    keys = [store.keys_of(chain(1, seed=seed))[0] for seed in range(12)]
    for age, key in enumerate(keys):
        assert store.put(key, page_of(key))
        os.utime(store._path(key, 0), ns=(age * 10**9, age * 10**9))
        assert store.get(keys[0]) == page_of(keys[0])
    assert store.get(keys[5]) is None


def test_a_chain_is_shortened_from_its_end(tmp_path):
    store = small_store(tmp_path, max_bytes=8 * (HEADER_BYTES + 640))
    keys = store.keys_of(chain(8))
    assert all(store.put(key, page_of(key)) for key in keys)
    (last,) = store.keys_of(chain(1, seed=9))
    assert store.put(last, page_of(last))
    found = [store.get(key) is not None for key in keys]
    assert found == sorted(found, reverse=True)
    assert 4 <= sum(found) < 8


def test_a_page_above_the_cap_is_not_kept(tmp_path):
    store = small_store(tmp_path, max_bytes=HEADER_BYTES + 639)
    (key,) = store.keys_of(chain(1))
    assert not store.put(key, page_of(key))
    assert page_paths(tmp_path) == []


def test_the_disk_keeps_what_it_must_keep_free(tmp_path):
    disk = os.statvfs(tmp_path)
    everything = disk.f_blocks * disk.f_frsize
    store = PageStore(tmp_path, IDENTITY, (640, 64), 1 << 20, keep_free_bytes=everything)
    (key,) = store.keys_of(chain(1))
    assert not store.put(key, page_of(key))
    assert store.counts.not_written == 1


def test_pages_of_other_processes_count(tmp_path):
    size = HEADER_BYTES + 640
    stores = [small_store(tmp_path, max_bytes=32 * size) for _ in range(2)]
    for seed in range(100):
        for place, store in enumerate(stores):
            (key,) = store.keys_of(chain(1, seed=2 * seed + place))
            assert store.put(key, page_of(key))
    # Each may have written a sixteenth that the other has not seen.
    assert len(page_paths(tmp_path)) <= 32 + 2 * 2


def test_what_a_killed_writer_left_is_deleted_later(tmp_path):
    store = small_store(tmp_path)
    (key,) = store.keys_of(chain(1))
    shard = tmp_path / key.digest.hex()[:2]
    shard.mkdir()
    old, young = shard / ".a.1.1.new", shard / ".b.1.1.new"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, ns=(10**9, 10**9))
    assert store.put(key, page_of(key))
    assert (old.exists(), young.exists()) == (False, True)
