"""`tonnage ps` and `stop`: servers found by the files that they leave while they run."""

import json
import os
from pathlib import Path

import pytest

from support.command import refused, tonnage
from support.live_server import write_chat_model
from support.serve_process import fetched, serving


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_chat_model(tmp_path_factory.mktemp("model") / "hf")


@pytest.fixture
def runtime(tmp_path) -> dict[str, str]:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return {"XDG_RUNTIME_DIR": str(folder)}


def listed(folder: Path, runtime: dict[str, str]) -> list[dict]:
    done = tonnage(folder, "ps", "--json", **runtime)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_server_is_found_and_ended(model, tmp_path, runtime):
    assert listed(tmp_path, runtime) == []
    assert "No server of yours runs" in refused(tonnage(tmp_path, "stop", **runtime))
    with serving(tmp_path, model, **runtime) as (process, url):
        (one,) = listed(tmp_path, runtime)
        assert (one["pid"], one["address"], one["models"]) == (process.pid, url, ["hf"])
        assert one["rss_bytes"] > 10 << 20
        (file,) = Path(runtime["XDG_RUNTIME_DIR"], "tonnage").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.parent.stat().st_mode & 0o777 == 0o700
        assert url in tonnage(tmp_path, "ps", **runtime).stdout
        wrong = tonnage(tmp_path, "stop", "1", **runtime)
        assert f"'1'; {process.pid} ({url}) run" in refused(wrong)
        assert fetched(f"{url}/health") == {"status": "ok"}
        done = tonnage(tmp_path, "stop", url.rpartition(":")[2], "--json", **runtime)
        assert json.loads(done.stdout)["pid"] == process.pid, done.stderr
        assert process.wait(20) == 0
        assert not file.exists()
    assert listed(tmp_path, runtime) == []


def test_files_of_servers_that_are_gone_or_of_no_server_are_ignored(model, tmp_path, runtime):
    with serving(tmp_path, model, **runtime) as (process, _):
        process.kill()
        process.wait(20)
    folder = Path(runtime["XDG_RUNTIME_DIR"], "tonnage")
    (left,) = folder.iterdir()  # a killed one cannot clean up
    told = json.loads(left.read_text())
    # Its number went to another process: this one.
    (folder / "serve-2.json").write_text(json.dumps({**told, "pid": os.getpid()}))
    (folder / "serve-3.json").write_text("no JSON")
    (folder / "serve-4.json").write_text('{"pid": "x"}')
    (folder / "serve-5.json").symlink_to(left)
    assert listed(tmp_path, runtime) == []
    # A folder that others may write to is not believed.
    folder.chmod(0o777)
    assert listed(tmp_path, runtime) == []
