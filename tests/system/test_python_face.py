"""What `from tonnage import ...` does with a model: plan, engine and server."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.command import environment, tonnage
from support.live_server import write_chat_model
from support.serve_process import fetched
from tonnage import BudgetError, Engine, RequestError, SamplingOptions, plan

# Everything that the planner would choose, so that both plans are of the same.
STATED = {"context": 256, "threads": 1, "concurrency": 3, "kv_format": "f16"}
SERVE = """
import logging, sys, tonnage
logging.basicConfig(level=logging.INFO)
sys.exit(tonnage.serve(sys.argv[1], memory="120MiB", port=0))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_chat_model(tmp_path_factory.mktemp("model") / "hf")


def test_a_plan_in_python_is_the_plan_of_the_command(model, tmp_path):
    choice = plan(str(model), "200MiB", **STATED)
    said = json.loads(
        tonnage(
            tmp_path, "plan", model, "--json", "--memory", "200MiB", "--context", 256,
            "--threads", 1, "--concurrency", 3, "--kv", "f16",
        ).stdout
    )  # fmt: skip
    assert choice.accepted
    assert said["total_bytes"] == choice.plan.total_bytes
    items = {item["name"]: item["planned_bytes"] for item in said["items"]}
    assert items == {item.name: item.planned_bytes for item in choice.plan.items}


def test_a_command_plans_what_an_engine_opens_for_several_sequences(model, tmp_path):
    said = json.loads(
        tonnage(
            tmp_path, "plan", model, "--json", "--memory", "200MiB", "--context", 256,
            "--threads", 1, "--concurrency", 3, "--kv", "f16",
        ).stdout
    )  # fmt: skip
    # This process may hold more than 200 MiB already, and what it holds is not the command's.
    with Engine.open(str(model), **STATED) as engine:
        opened = {item.name: item.planned_bytes for item in engine.plan.items}
    planned = {item["name"]: item["planned_bytes"] for item in said["items"]}
    for own in ("weights", "kv pages", "step scratch", "sampler", "requests"):
        assert planned[own] == opened[own]


def test_a_plan_that_does_not_fit_is_returned_and_an_engine_is_refused(model):
    choice = plan(str(model), "1MiB")
    assert not choice.accepted
    assert choice.plan.total_bytes > 1 << 20
    with pytest.raises(BudgetError):
        Engine.open(str(model), "1MiB")


def test_wrong_options_are_errors_before_anything_is_loaded(model):
    with pytest.raises(TypeError, match="did you mean context"):
        Engine.open(str(model), contxt=64)
    with pytest.raises(RequestError, match="unknown"):
        plan(str(model), kv_format="int4")


def test_former_keywords_still_work(model):
    with pytest.warns(DeprecationWarning, match="step_rows is called max_batch_tokens now"):
        choice = plan(str(model), "200MiB", step_rows=32)
    assert choice.plan.max_rows == 32


def test_texts_and_vectors_come_from_methods(model):
    with Engine.open(str(model), context=128, threads=1) as engine:
        ids = engine.encode_prompt("x", raw=True)
        options = SamplingOptions(max_tokens=3, temperature=0, ignore_eos=True)
        made = engine.generate(ids, options).complete()
        assert len(made.tokens) == 3
        assert made.tokens == engine.generate("x", options, raw=True).complete().tokens
        (vector,) = engine.embed(["x"], dimensions=4)
        assert len(vector.vector) == 4
        assert vector.num_tokens == len(engine.encode_inputs("x")[0])


def test_a_server_starts_from_python_and_ends_with_a_signal(model, tmp_path):
    command = [sys.executable, "-c", SERVE, str(model)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment(tmp_path)
    ) as process:
        try:
            assert process.stderr is not None
            line = next((line for line in process.stderr if " at http://" in line), "")
            url = line.split(" at ")[1].split()[0]
            assert [one["id"] for one in fetched(f"{url}/v1/models")["data"]] == ["hf"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        finally:
            process.kill()
