"""`tonnage batch` as a user meets it: order, resuming after a kill, errors in their place."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from support.command import COMMAND, environment, refused, tonnage

NUM_LINES = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    config = tiny_config("gemma2", max_position_embeddings=1 << 12)
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_gguf(path, tiny_model(config, seed=1), matrices("Q8_0"))


@pytest.fixture(scope="module")
def requests(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("batch") / "in.jsonl"
    rng = random.Random(4)
    lines = [
        {"prompt": f"Line {index} " * rng.randint(1, 9), "max_tokens": rng.randint(1, 40),
         "ignore_eos": True}
        for index in range(NUM_LINES)
    ]  # fmt: skip
    lines[7] = {"prompt": "a", "max_tokens": "many"}
    lines[8] = {"prompt": "too long " * 4000}
    lines[9] = {"custom_id": "nine", "body": {"prompt": "Hi", "ignore_eos": True}}
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def arguments(model: Path, requests: Path, out: Path) -> list[object]:
    options = ("--seed", 5, "--max-tokens", 12, "--context", 512, "--concurrency", 4)
    return ["batch", requests, out, "--model", model, *options]


@pytest.fixture(scope="module")
def whole(model, requests, tmp_path_factory) -> bytes:
    """What a run without interruption writes."""
    folder = tmp_path_factory.mktemp("whole")
    done = tonnage(folder, *arguments(model, requests, folder / "out"))
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    assert "58 answered, 2 refused" in done.stderr
    return (folder / "out").read_bytes()


def test_results_come_in_order_with_errors_in_place(model, requests, whole, tmp_path):
    results = [json.loads(line) for line in whole.splitlines()]
    assert len(results) == NUM_LINES
    for index, line in enumerate(requests.read_text().splitlines()):
        asked, got = json.loads(line), results[index]
        if index == 7:
            assert got["error"]["message"] == "max_tokens is str, not int."
        elif index == 8:
            assert got["error"]["code"] == "ContextLengthError"
        elif index == 9:
            body = got["response"]["body"]
            assert (got["custom_id"], body["object"]) == ("nine", "text_completion")
            assert body["usage"]["completion_tokens"] == 12
        else:
            assert got["usage"]["completion_tokens"] == asked["max_tokens"]
    # The answer in a batch is the answer alone.
    for index in (0, 33, NUM_LINES - 1):
        asked = json.loads(requests.read_text().splitlines()[index])
        args = (model, asked["prompt"], "--max-tokens", asked["max_tokens"], "--seed", 5, "--json")
        alone = json.loads(tonnage(tmp_path, "run", *args, "--context", 512).stdout)
        # An end token that the batch ignored would end it earlier.
        assert results[index]["text"].startswith(alone["text"])
        assert alone["text"]


def started(folder: Path, args: list[object]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, *map(str, args)], env=environment(folder), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def num_lines(data: bytes) -> int:
    return data.count(b"\n")


def wait_for_lines(path: Path, count: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if path.exists() and num_lines(path.read_bytes()) >= count:
            return
        time.sleep(0.002)
    raise AssertionError(f"{path} never had {count} lines")


@pytest.mark.parametrize("count", [2, 20, 45])
def test_after_a_kill_the_same_command_goes_on(model, requests, whole, tmp_path, count):
    out = tmp_path / "out"
    args = arguments(model, requests, out)
    with started(tmp_path, args) as process:
        wait_for_lines(out, count)
        process.kill()
    had = out.read_bytes()
    assert num_lines(had) >= count
    # As if the last write had been cut.
    os.truncate(out, len(had) - 3)
    done = tonnage(tmp_path, *args)
    assert done.returncode == 3, done.stderr
    assert f"{num_lines(had) - 1} were there already" in done.stderr
    assert out.read_bytes() == whole


def test_ctrl_c_leaves_a_file_to_go_on_from(model, requests, whole, tmp_path):
    out = tmp_path / "out"
    args = arguments(model, requests, out)
    with started(tmp_path, args) as process:
        wait_for_lines(out, 5)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    if process.returncode == 3:
        pytest.skip("the batch was done before the signal came")
    assert process.returncode == 130
    assert "Traceback" not in said
    kept = out.read_bytes()
    assert f"stopped at {num_lines(kept)} of {NUM_LINES}" in said
    assert whole.startswith(kept)
    assert tonnage(tmp_path, *args).returncode == 3
    assert out.read_bytes() == whole


def test_a_finished_batch_is_left_as_it_is(model, requests, whole, tmp_path):
    out = tmp_path / "out"
    out.write_bytes(whole)
    done = tonnage(tmp_path, *arguments(model, requests, out))
    assert done.returncode == 3
    assert "0 answered, 0 refused, 60 were there already, 2 refused" in done.stderr
    assert out.read_bytes() == whole


def test_a_batch_without_a_refused_line_ends_with_0(model, tmp_path):
    (tmp_path / "in").write_text('{"prompt": "Hi", "max_tokens": 2}\n')
    for _ in range(2):
        done = tonnage(tmp_path, *arguments(model, tmp_path / "in", tmp_path / "out"))
        assert done.returncode == 0, done.stderr


def test_what_cannot_be_done_is_said(model, requests, whole, tmp_path):
    out = tmp_path / "out"
    out.write_bytes(whole)
    other = [*arguments(model, requests, out), "--temperature", "0"]
    assert "with this model and these options" in refused(tonnage(tmp_path, *other))
    assert out.read_bytes() == whole
    same = arguments(model, out, out)
    assert "are the same file" in refused(tonnage(tmp_path, *same))
    missing = arguments(model, tmp_path / "none", tmp_path / "new")
    assert "none: No such file" in refused(tonnage(tmp_path, *missing))
    assert not (tmp_path / "new").exists()
    few = [*arguments(model, requests, tmp_path / "new"), "--concurrency", "0"]
    assert "0 sequences" in refused(tonnage(tmp_path, *few))
