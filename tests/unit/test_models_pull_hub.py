"""hf: names, with the real huggingface_hub against a hub on this machine.

Each look-up is a process of its own: the library reads its settings when it is imported.
"""

import importlib.util
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stand_ins.model_hub import etag, model_hub
from stand_ins.wheels import write_catalog
from tonnage.core.errors import ModelNotFoundError, PullError
from tonnage.store.catalog import HubModel
from tonnage.store.hub import HubName, fetch_from_hub, parse_hub_name

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None, reason="huggingface_hub is not installed"
)

RESOLVE_SCRIPT = """
import os, sys
from tonnage.core.errors import TonnageError
from tonnage.store.catalog import open_catalogs
from tonnage.store.source import resolve
try:
    catalogs = open_catalogs(None, os.environ)
    source = resolve(sys.argv[1], catalogs=catalogs, offline="offline" in sys.argv)
    print(source.form, source.path)
except TonnageError as error:
    print(type(error).__name__, error)
    sys.exit(2)
"""

LIST_SCRIPT = """
import os
from pathlib import Path
from tonnage.store.catalog import open_catalogs
from tonnage.store.source import list_models
for row in list_models(open_catalogs(Path(os.environ["CATALOG"]), {})):
    if row.name == "tiny-hub":
        print(row.state, row.num_bytes, row.have_bytes, row.path)
"""

WEIGHTS = random.Random(1).randbytes(300_000)
REPOSITORIES = {
    "org/folder": {
        "config.json": b'{"model_type": "llama"}',
        "model-00001-of-00002.safetensors": WEIGHTS,
        "model-00002-of-00002.safetensors": WEIGHTS[::-1],
        "model.safetensors.index.json": b"{}",
        "tokenizer.json": b"{}",
        "chat_template.jinja": b"",
        "pytorch_model.bin": b"pickle",
        "original/consolidated.00.safetensors": b"twice",
        "README.md": b"words",
    },
    "org/one": {"config.json": b"{}", "model-q8.gguf": WEIGHTS},
    "org/two": {"a-q4.gguf": b"4", "b-q8.gguf": b"8"},
    "org/parts": {f"q4/m-{i:05}-of-00003.gguf": b"%d" % i * 9 for i in (1, 2, 3)},
    "org/none": {"pytorch_model.bin": b"pickle", "config.json": b"{}"},
    "org/closed": {"model.gguf": b"x"},
}


@pytest.fixture
def hub():
    with model_hub(REPOSITORIES) as hub:
        hub.gated.add("org/closed")
        yield hub


@pytest.fixture
def environ(hub, tmp_path):
    return {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "HF_HUB_OFFLINE": "0",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }


def resolved(name, environ, *options):
    """Return (exit code, what was printed) and check that there was no traceback."""
    done = subprocess.run(
        [sys.executable, "-c", RESOLVE_SCRIPT, name, *options],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.strip()


def path_of(said, form):
    assert said.startswith(form + " "), said
    return Path(said.removeprefix(form + " "))


@needs_library
def test_folder_brings_what_loading_reads_and_nothing_else(hub, environ):
    status, said = resolved("hf:org/folder", environ)
    assert status == 0, said
    folder = path_of(said, "folder")
    assert sorted(path.name for path in folder.iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ]
    assert (folder / "model-00001-of-00002.safetensors").read_bytes() == WEIGHTS


@needs_library
def test_named_file_then_offline_use(hub, environ):
    status, said = resolved("hf:org/two/b-q8.gguf", environ)
    assert status == 0, said
    file = path_of(said, "gguf")
    assert file.read_bytes() == b"8"
    num_gets = len(hub.gets)
    again = {**environ, "HF_ENDPOINT": "http://127.0.0.1:9"}
    assert resolved("hf:org/two/b-q8.gguf", again, "offline") == (0, f"gguf {file}")
    assert resolved("hf:org/two/b-q8.gguf", {**again, "HF_HUB_OFFLINE": "1"}) == (0, f"gguf {file}")
    assert len(hub.gets) == num_gets


@needs_library
def test_folder_offline(hub, environ):
    status, said = resolved("hf:org/folder", environ)
    again = {**environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    assert resolved("hf:org/folder", again) == (status, said)
    assert resolved("hf:org/folder", again, "offline") == (0, said)


@needs_library
def test_cut_connection_is_resumed_with_a_range(hub, environ):
    # The library writes 10 MB at a time; it resumes behind what it wrote.
    weights = random.Random(2).randbytes(24 << 20)
    hub.repositories = {"org/large": {"m.gguf": weights}}
    hub.cut.append("m.gguf")
    status, said = resolved("hf:org/large/m.gguf", environ)
    if status:
        # Releases before 1.0 resume only when asked again.
        assert re.match("PullError .* Run the same again", said)
        status, said = resolved("hf:org/large/m.gguf", environ)
    assert status == 0, said
    assert path_of(said, "gguf").read_bytes() == weights
    (first, second) = [asked for _, asked in hub.gets]
    assert first == ""
    assert 0 < int(second.removeprefix("bytes=").rstrip("-")) <= len(weights) // 2


@needs_library
def test_interrupted_folder_keeps_its_whole_files(hub, environ):
    name = "model-00002-of-00002.safetensors"
    full = hub.repositories["org/folder"]
    hub.repositories = {"org/folder": {key: full[key] for key in full if key != name}}
    commit = "0123456789abcdef" * 2 + "01234567"
    hub.commit = lambda repository: commit
    resolved("hf:org/folder", environ)
    hub.repositories = {"org/folder": full}
    first_gets = [file for file, _ in hub.gets]
    hub.commit = lambda repository: commit[::-1]
    status, said = resolved("hf:org/folder", environ)
    assert status == 0, said
    later_gets = [file for file, _ in hub.gets[len(first_gets) :]]
    assert "model-00001-of-00002.safetensors" in first_gets
    assert later_gets == [name]


@needs_library
@pytest.mark.parametrize("asked", ["", "/q4/m-00001-of-00003.gguf", "/q4/m-00003-of-00003.gguf"])
def test_all_parts_of_a_model_come_with_any_of_them(hub, environ, asked):
    status, said = resolved(f"hf:org/parts{asked}", environ)
    assert status == 0, said
    file = path_of(said, "gguf")
    assert file.name == (asked or "/m-00001-of-00003.gguf").rpartition("/")[2]
    assert {path.name: path.read_bytes() for path in file.parent.iterdir()} == {
        f"m-{i:05}-of-00003.gguf": b"%d" % i * 9 for i in (1, 2, 3)
    }
    again = {**environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    assert resolved(f"hf:org/parts{asked}", again, "offline") == (0, said)


@needs_library
def test_a_part_that_the_repository_has_not_is_said(environ):
    status, said = resolved("hf:org/parts/q4/m-00001-of-00002.gguf", environ)
    assert status == 2
    assert said.startswith("ModelNotFoundError org/parts has no file q4/m-00001-of-00002.gguf")


@needs_library
def test_repository_with_one_gguf_gives_that(hub, environ):
    status, said = resolved("hf:org/one", environ)
    assert status == 0, said
    file = path_of(said, "gguf")
    assert file.name == "model-q8.gguf"
    assert resolved("hf:org/one", {**environ, "HF_HUB_OFFLINE": "1"}, "offline") == (0, said)


@needs_library
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hf:org/two", r"ModelNotFoundError .*2 GGUF models; choose .*: a-q4\.gguf, b-q8\.gguf"),
        ("hf:org/none", r"ModelNotFoundError .*neither config\.json with safetensors nor"),
        ("hf:org/missing", r"ModelNotFoundError The hub has no repository org/missing"),
        ("hf:org/missing/x.gguf", r"ModelNotFoundError The hub has no repository org/missing"),
        ("hf:org/two/a-q5.gguf", r"ModelNotFoundError .*no file a-q5\.gguf; did you mean a-q4"),
        ("hf:org/closed/model.gguf", r"PullError .*is gated: accept its terms"),
    ],
)
def test_what_cannot_be_had_is_explained(hub, environ, name, expected):
    status, said = resolved(name, environ)
    assert status == 2
    assert re.match(expected, said), said
    assert "\n" not in said


@needs_library
@pytest.mark.parametrize("name", ["hf:org/one", "hf:org/one/model-q8.gguf"])
def test_no_network_and_nothing_cached(hub, environ, name):
    offline = {**environ, "HF_HUB_OFFLINE": "1"}
    unreachable = {**environ, "HF_ENDPOINT": "http://127.0.0.1:9"}
    for status, said in (
        resolved(name, offline),
        resolved(name, environ, "offline"),
        resolved(name, unreachable) if name == "hf:org/one" else (2, ""),
    ):
        assert status == 2
        if said:
            assert re.match(r"PullError org/one.* not in the hub's local cache", said), said
    assert hub.gets == []


@needs_library
@pytest.mark.parametrize("name", ["hf:org/one", "hf:org/folder"])
def test_file_that_arrives_with_another_hash_is_deleted_and_fetched_again(hub, environ, name):
    damaged = "model-q8.gguf" if name == "hf:org/one" else "model-00002-of-00002.safetensors"
    hub.damaged.add(damaged)
    status, said = resolved(name, environ)
    assert status == 2
    stated = etag(REPOSITORIES[name.removeprefix("hf:")][damaged])
    assert re.match(rf"PullError {damaged} arrived with SHA-256 .* hub states {stated}", said), said
    status, said = resolved(name, environ, "offline")
    assert status == 2
    hub.damaged.clear()
    status, said = resolved(name, environ)
    assert status == 0, said


@needs_library
def test_file_that_was_written_over_in_the_hubs_cache_is_noticed(hub, environ):
    status, said = resolved("hf:org/two/b-q8.gguf", environ)
    assert status == 0, said
    path_of(said, "gguf").resolve().write_bytes(b"9")
    status, said = resolved("hf:org/two/b-q8.gguf", environ, "offline")
    assert status == 2
    assert re.match(r"PullError b-q8\.gguf arrived with SHA-256", said), said


@needs_library
def test_name_of_a_catalog_stands_for_a_file_of_the_hub(hub, environ, tmp_path):
    entry = HubModel("tiny-hub", "Maker", "org", "MIT", "base", "hf:org/two/b-q8.gguf")
    catalog = write_catalog(tmp_path / "catalog.toml", entry)
    environ |= {"TONNAGE_CATALOG": str(catalog), "CATALOG": str(catalog)}

    def listed():
        done = subprocess.run(
            [sys.executable, "-c", LIST_SCRIPT], env=environ, capture_output=True, text=True
        )
        return done.stdout.strip()

    assert listed() == "not pulled None 0 None"
    status, said = resolved("tiny-hub", environ, "offline")
    assert (status, hub.gets) == (2, [])
    status, said = resolved("tiny-hub", environ)
    assert status == 0, said
    file = path_of(said, "gguf")
    assert file.read_bytes() == b"8"
    assert listed() == f"pulled 1 1 {file}"
    assert resolved("tiny-hub", environ, "offline") == (0, said)


@needs_library
def test_a_catalog_lists_a_model_in_parts_with_what_is_here(environ, tmp_path):
    entry = HubModel(
        "tiny-hub", "Maker", "org", "MIT", "base", "hf:org/parts/q4/m-00001-of-00003.gguf"
    )
    catalog = write_catalog(tmp_path / "catalog.toml", entry)
    environ |= {"TONNAGE_CATALOG": str(catalog), "CATALOG": str(catalog)}

    def listed():
        done = subprocess.run(
            [sys.executable, "-c", LIST_SCRIPT], env=environ, capture_output=True, text=True
        )
        return done.stdout.strip()

    status, said = resolved("tiny-hub", environ)
    assert status == 0, said
    file = path_of(said, "gguf")
    assert listed() == f"pulled 27 27 {file}"
    file.with_name("m-00002-of-00003.gguf").unlink()
    assert listed() == f"partial None 18 {file}"
    assert resolved("tiny-hub", environ) == (0, said)
    assert listed() == f"pulled 27 27 {file}"


@needs_library
def test_hub_cache_that_cannot_be_written(hub, environ, tmp_path):
    (tmp_path / "hf").write_text("in the way")
    status, said = resolved("hf:org/one/model-q8.gguf", environ)
    assert status == 2
    assert re.match(r"CacheError The hub's cache cannot be written .*HF_HOME", said), said


def test_missing_library_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(PullError, match=r"pip install 'tonnage\[hub\]'"):
        fetch_from_hub(HubName("org/one", None), offline=False, environ={})


def test_names_of_the_hub():
    assert parse_hub_name("hf:org/name") == HubName("org/name", None)
    assert parse_hub_name("hf:org/na.me-1/sub/x.gguf") == HubName("org/na.me-1", "sub/x.gguf")
    for wrong in ("hf:", "hf:org", "hf:org/", "hf:/name", "hf:org/n/../x", "hf:o rg/n", "hf:a/b/"):
        with pytest.raises(ModelNotFoundError, match="write hf:owner/name"):
            parse_hub_name(wrong)


@needs_library
def test_a_tag_picks_the_file(hub, environ):
    status, said = resolved("hf:org/two:q8", environ)
    assert status == 0, said
    file = path_of(said, "gguf")
    assert file.read_bytes() == b"8"
    assert resolved("org/two:Q8", environ, "offline") == (0, f"gguf {file}")
    status, said = resolved("hf:org/two:q5", environ)
    assert status == 2
    assert "None of the GGUF models of org/two has 'q5'" in said
    assert "a-q4.gguf, b-q8.gguf" in said


@needs_library
def test_without_a_network_it_says_so_in_a_second(environ, tmp_path):
    away = {**environ, "HF_ENDPOINT": "https://hub.invalid"}
    away = {name: value for name, value in away.items() if not name.lower().endswith("_proxy")}
    status, said = resolved("hf:org/one/model-q8.gguf", away)
    assert status == 2
    assert "The host hub.invalid is not found" in said
