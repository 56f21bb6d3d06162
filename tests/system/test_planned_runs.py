"""Plan files as a user meets them: the plan that was written is the plan that runs and serves."""

import json
import shutil
from pathlib import Path

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from support.command import refused, tonnage
from support.live_server import write_chat_model
from support.serve_process import fetched, serving
from tonnage.core.errors import BudgetError, FileFormatError, PlanFileError, RequestError
from tonnage.engine.engine import Engine
from tonnage.engine.plan_files import read_plan_file
from tonnage.store.source import ModelSource

STATED = ("--memory", "200MiB", "--context", 300, "--threads", 1, "--kv", "int8")


def write_model(path: Path, seed: int = 1) -> Path:
    config = tiny_config("llama", max_position_embeddings=1 << 12)
    return write_gguf(path, tiny_model(config, seed=seed), matrices("Q8_0"))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(scope="module")
def plan_file(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    done = tonnage(folder, "plan", model, *STATED, "-o", folder / "plan.json")
    assert done.returncode == 0, done.stderr
    return folder / "plan.json"


def ran(folder: Path, *args: object) -> dict:
    done = tonnage(
        folder, "run", *args, "--temperature", 0, "--max-tokens", 8, "--json", "--ledger",
        text="Hello there",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_a_plan_runs_as_the_options_that_made_it(model, plan_file, tmp_path):
    stated = ran(tmp_path, model, *STATED)
    planned = ran(tmp_path, "--plan", plan_file)
    for key in ("text", "tokens", "threads", "budget_bytes", "total_bytes", "model"):
        assert planned[key] == stated[key], key
    assert [(i["name"], i["kind"], i["planned_bytes"]) for i in planned["items"]] == [
        (i["name"], i["kind"], i["planned_bytes"]) for i in stated["items"]
    ]
    assert planned["budget_bytes"] == 200 << 20


def test_a_plan_goes_with_its_checkpoint_wherever_that_lies(model, plan_file, tmp_path):
    moved = shutil.copy(model, tmp_path / "renamed.gguf")
    assert (
        ran(tmp_path, moved, "--plan", plan_file)["tokens"]
        == (ran(tmp_path, "--plan", plan_file)["tokens"])
    )


def test_a_plan_of_another_checkpoint_is_refused(plan_file, tmp_path):
    other = write_model(tmp_path / "other.gguf", seed=2)  # of the same shapes
    sentence = refused(tonnage(tmp_path, "run", other, "Hi", "--plan", plan_file))
    assert "another checkpoint" in sentence
    with pytest.raises(PlanFileError, match="another checkpoint"):
        Engine.open(str(other), plan=plan_file)


def test_what_a_plan_has_chosen_is_not_stated_again(plan_file, tmp_path):
    sentence = refused(tonnage(tmp_path, "run", "--plan", plan_file, "--context", 64, text="Hi"))
    assert "--context" in sentence
    with pytest.raises(RequestError, match="--kv"):
        Engine.open(plan=plan_file, kv_format="f16")


def test_less_memory_than_the_plan_takes_is_refused(plan_file, tmp_path):
    sentence = refused(
        tonnage(tmp_path, "run", "--plan", plan_file, "--memory", "20MiB", text="Hi")
    )
    assert "short" in sentence


def test_a_plan_that_does_not_fit_is_not_written(model, tmp_path):
    out = tmp_path / "plan.json"
    sentence = refused(tonnage(tmp_path, "plan", model, "--memory", "5MiB", "-o", out, "--json"))
    assert "short" in sentence
    assert not out.exists()
    assert "--machine" in refused(
        tonnage(tmp_path, "plan", model, "--machine", "m4-max", "-o", out)
    )


def test_a_file_of_another_machine_or_version_runs_and_says_so(plan_file, tmp_path, caplog):
    raw = json.loads(plan_file.read_text())
    raw["machine"]["cpu_model"] = "Another"
    raw["machine"]["isa"] = "scalar"
    raw["program"] = "0.0.9"
    changed = tmp_path / "plan.json"
    changed.write_text(json.dumps(raw))

    def tokens(file: Path) -> list[int]:
        with Engine.open(memory="4GiB", plan=file) as engine:
            return list(engine.generate("Hi", max_tokens=4, temperature=0).complete().tokens)

    expected = tokens(plan_file)
    assert caplog.text == ""
    assert tokens(changed) == expected
    assert "Another" in caplog.text
    assert "0.0.9" in caplog.text


def test_what_opens_is_the_plan_in_the_file(plan_file):
    file = read_plan_file(plan_file)
    with Engine.open(memory="4GiB", plan=file) as engine:
        assert engine.plan.steps == file.plan.steps
        assert engine.plan.buffers == file.plan.buffers
        assert engine.plan.kv == file.plan.kv
        assert engine.plan.arena_bytes == file.plan.arena_bytes
        assert engine.plan.context_tokens == 300


def test_a_server_serves_by_the_plan(tmp_path):
    folder = write_chat_model(tmp_path / "chat")
    plan = tmp_path / "plan.json"
    made = tonnage(
        tmp_path, "plan", folder, "--context", 256, "--threads", 1, "--concurrency", 2, "-o", plan
    )
    assert made.returncode == 0, made.stderr
    body = {
        "model": "chat", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0,
        "max_tokens": 6,
    }  # fmt: skip
    with serving(tmp_path, "--plan-file", plan) as (_, url):
        planned = fetched(url + "/v1/chat/completions", body)
    same = ("--context", 256, "--threads", 1, "--concurrency", 2)
    with serving(tmp_path, folder, *same) as (_, url):
        stated = fetched(url + "/v1/chat/completions", body)
    assert planned["choices"] == stated["choices"]
    assert "one model" in refused(
        tonnage(tmp_path, "serve", folder, "--model", folder, "--plan-file", plan)
    )


def test_what_changed_between_choice_and_load_is_refused(tmp_path):
    from tonnage.engine.build import ServingOptions
    from tonnage.engine.engine import THIS_PROCESS
    from tonnage.engine.planning import plan
    from tonnage.machine.memory_use import Start

    path = write_model(tmp_path / "tiny.gguf")
    choice = plan(str(path), context=200, threads=1)
    source = ModelSource("tiny", path, "gguf")
    start = Start.of(THIS_PROCESS)
    with Engine.load(choice, source, None, ServingOptions(), start) as engine:
        assert engine.plan is choice.plan
    write_model(path, seed=5)  # other weights behind the same headers
    Engine.load(choice, source, None, ServingOptions(), start).close()
    config = tiny_config("llama", max_position_embeddings=1 << 12, num_hidden_layers=9)
    write_gguf(path, tiny_model(config, seed=1), matrices("Q8_0"))
    with pytest.raises(BudgetError, match="has changed since"):
        Engine.load(choice, source, None, ServingOptions(), start)
    config = tiny_config("llama", max_position_embeddings=1 << 12, num_hidden_layers=1)
    write_gguf(path, tiny_model(config, seed=1), matrices("Q8_0"))
    with pytest.raises(FileFormatError, match="has changed since"):
        Engine.load(choice, source, None, ServingOptions(), start)
