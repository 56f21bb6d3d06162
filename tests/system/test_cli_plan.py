"""`tonnage plan` and `tonnage run --ledger`: the plan holds in real processes."""

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf, write_hf
from support.command import COMMAND, refused, tonnage
from support.models import real_model
from tonnage.core.plan import Item
from tonnage.core.units import parse_bytes

MIB = 1 << 20
UNACCOUNTED_BYTES = 24 * MIB
# What real models are given, beside their weights' size.
BUDGETS = {
    "smollm2-135m": "160MiB",
    "gemma3-270m": "320MiB",
    "qwen2.5-coder-0.5b": "540MiB",
    "qwen2.5-coder-1.5b": "1.2GiB",
}
# The planner counts on a chat template and on merges; this model has neither.
WITHOUT_TEMPLATE = ("gemma3-270m",)


@pytest.fixture(scope="module")
def config():
    return tiny_config("gemma2", hidden_size=256, max_position_embeddings=1 << 14)


@pytest.fixture(scope="module")
def model(tmp_path_factory, config) -> Path:
    path = tmp_path_factory.mktemp("plan") / "tiny.gguf"
    return write_gguf(path, tiny_model(config, seed=1), matrices("Q8_0"))


@pytest.fixture(scope="module")
def larger(tmp_path_factory) -> Path:
    """A model whose weights fill several huge pages."""
    config = tiny_config(
        "llama", hidden_size=512, num_hidden_layers=6, max_position_embeddings=1 << 14
    )
    path = tmp_path_factory.mktemp("plan") / "larger.gguf"
    return write_gguf(path, tiny_model(config, seed=1), matrices("Q8_0"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, config) -> Path:
    return write_hf(tmp_path_factory.mktemp("plan") / "hf", tiny_model(config, seed=1))


def planned(home: Path, *args: object) -> dict:
    done = tonnage(home, "plan", *args, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def answered(home: Path, *args: object) -> dict:
    done = tonnage(home, "run", *args, "--temperature", 0, "--json", "--ledger")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def assert_kept(plan: dict, run: dict) -> None:
    """The run had the plan's items, none took more than planned, and little is unexplained."""
    assert [{key: item[key] for key in ("name", "kind", "planned_bytes")} for item in run["items"]]\
        == plan["items"]  # fmt: skip
    for item in run["items"]:
        assert 0 <= item["now_bytes"] <= item["peak_bytes"] <= item["planned_bytes"], item
        assert item["measured_by"] != "assumed"
    assert run["budget_bytes"] == plan["budget_bytes"]
    assert run["peak_rss_bytes"] <= plan["total_bytes"] == run["total_bytes"]
    now = sum(item["now_bytes"] for item in run["items"])
    assert run["unaccounted_bytes"] == run["rss_bytes"] - now
    assert abs(run["unaccounted_bytes"]) <= UNACCOUNTED_BYTES


def test_the_items_add_up_and_the_weights_are_named(model, tmp_path):
    plan = planned(tmp_path, model, "--memory", "200MiB", "--context", 512, "--concurrency", 3)
    assert plan["accepted"] is True
    assert plan["budget_bytes"] == 200 * MIB
    assert plan["total_bytes"] == sum(item["planned_bytes"] for item in plan["items"])
    assert all(Item(**item) for item in plan["items"])
    sizes = {item["kind"]: item["planned_bytes"] for item in plan["items"]}
    weights = sum(weight["bytes"] for weight in plan["weights"])
    assert 0 < sizes["weight"] - weights <= 2 * MIB + 64 * len(plan["weights"])
    assert {weight["format"] for weight in plan["weights"]} == {"Q8_0", "F32"}
    assert (plan["kv_format"], plan["context_tokens"], plan["concurrency"]) == ("f16", 512, 3)
    assert plan["forecast"] is None, "this home has no measurement of the machine"
    assert (plan["quality"]["mean_kld"], plan["quality"]["basis"]) == (0.0, "exact")
    assert "relaxations" not in plan
    assert all(one["reason"] and one["total_bytes"] > 0 for one in plan["rejected"])


def test_int8_pages_take_half_the_bytes_and_a_scale_per_token_and_head(model, tmp_path):
    args = (model, "--memory", "1GiB", "--context", 16384)
    half, small = (planned(tmp_path, *args, "--kv", name) for name in ("f16", "int8"))
    assert (half["kv_format"], small["kv_format"]) == ("f16", "int8")
    sizes = [{i["name"]: i["planned_bytes"] for i in p["items"]} for p in (half, small)]
    # Heads of 32 here: 64 elements of K and V, and two scales of 2 bytes.
    assert abs(sizes[1]["kv pages"] - sizes[0]["kv pages"] * (64 + 4) / 128) <= 2 * MIB
    assert {name for name in sizes[0] if sizes[0][name] != sizes[1][name]} == {"kv pages"}


def test_a_plan_is_the_same_in_two_processes(model, tmp_path):
    args = ("plan", model, "--memory", "100MiB", "--json")
    one, two = (tonnage(tmp_path, *args, PYTHONHASHSEED=seed).stdout for seed in ("1", "2"))
    assert one == two
    assert one


def test_a_refused_plan_names_the_shortfall_and_what_would_fit(model, tmp_path):
    stated = {
        "--context": 16384, "--max-batch-tokens": 512, "--kv": "f16", "--quality": "lossless",
        "--memory": "1GiB",
    }  # fmt: skip

    def words(**changes: object) -> list[object]:
        options = stated | {f"--{name.replace('_', '-')}": changes[name] for name in changes}
        return [word for pair in options.items() for word in pair]

    budget = planned(tmp_path, model, *words())["total_bytes"] - 1
    plan = planned(tmp_path, model, *words(memory=budget))
    assert (plan["accepted"], plan["shortfall_bytes"]) == (False, 1)
    assert plan["binding_item"] in {item["name"] for item in plan["items"]}
    first = plan["relaxations"][0]
    done = tonnage(tmp_path, "plan", model, *words(memory=budget))
    assert done.returncode == 2
    assert "short" in done.stdout
    assert f"{first['option']} {first['value']}" in done.stderr
    changed = words(
        **{first["option"].strip("-").replace("-", "_"): first["value"], "memory": budget}
    )
    again = planned(tmp_path, model, *changed)
    assert (again["accepted"], again["total_bytes"]) == (True, first["total_bytes"])
    refused(tonnage(tmp_path, "run", model, "Hello", *words(memory=budget)))


def test_a_run_gives_up_what_was_not_stated_says_so_and_stays_within(larger, tmp_path):
    model, stated = larger, ("--context", 64, "--max-batch-tokens", 16)
    whole = planned(tmp_path, model, *stated, "--memory", "1GiB")
    sizes = {item["kind"]: item["planned_bytes"] for item in whole["items"]}
    assert sizes["weight"] > 4 << 20
    budget = whole["total_bytes"] - (2 << 20)
    args = (*stated, "--kv", "f16", "--quality", "1000", "--memory", budget)
    plan = planned(tmp_path, model, *args)
    assert plan["accepted"]
    assert plan["quality"]["basis"] == "estimate"
    assert {weight["format"] for weight in plan["weights"]} > {"F32"}
    done = tonnage(tmp_path, "run", model, "Hello", "--max-tokens", 2, "--json", "--ledger", *args)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert "To fit the budget: weights at" in line
    assert "nats from the file (estimate" in line
    assert_kept(plan, json.loads(done.stdout))


def test_int8_pages_that_cost_much_are_taken_where_the_context_is_stated(tmp_path):
    """They are not usual for a model this narrow: else the context shrinks before."""
    config = tiny_config("llama", num_hidden_layers=12, max_position_embeddings=1 << 14)
    path = tmp_path / "narrow.gguf"
    model = write_gguf(path, tiny_model(config, seed=1), matrices("Q8_0"))
    stated = ("--quality", "1000", "--max-batch-tokens", 16)
    whole = planned(tmp_path, model, "--memory", "1GiB", *stated)
    assert whole["kv_format"] == "f16"
    pages = next(i["planned_bytes"] for i in whole["items"] if i["kind"] == "kv")
    budget = whole["total_bytes"] - pages // 3
    open_context = planned(tmp_path, model, "--memory", budget, *stated)
    assert (open_context["kv_format"], open_context["context_tokens"]) == ("f16", 2048)
    args = "--memory", budget, "--context", whole["context_tokens"], *stated
    plan = planned(tmp_path, model, *args)
    assert (plan["kv_format"], plan["context_tokens"]) == ("int8", whole["context_tokens"])
    run = tonnage(tmp_path, "run", model, "Hello", "--max-tokens", 2, *args)
    assert (run.returncode, "KV pages in int8" in run.stderr) == (0, True)


def test_the_picture_is_written(model, tmp_path):
    file = tmp_path / "plan.svg"
    plan = planned(tmp_path, model, "--memory", "200MiB", "--svg", file)
    root = ElementTree.fromstring(file.read_text())
    assert root.get("data-total-bytes") == str(plan["total_bytes"])
    refused(tonnage(tmp_path, "plan", model, "--svg", tmp_path / "no" / "plan.svg"))


def printed_sizes(line: str) -> list[tuple[float, float]]:
    """Return the sizes in a line, each with half a unit of its last digit."""
    found = re.findall(r"(\d+)(\.\d)? ([KMG]iB|B)\b", line)
    unit = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
    return [
        (float(whole + tenths) * unit[name], unit[name] * (0.05 if tenths else 0.5))
        for whole, tenths, name in found
    ]


@pytest.mark.parametrize("args", [(), ("--explain",)], ids=["table", "chart"])
def test_table_and_chart_are_narrow_and_add_up(model, tmp_path, args):
    plan = planned(tmp_path, model, "--memory", "200MiB")
    done = tonnage(tmp_path, "plan", model, "--memory", "200MiB", *args)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()[1:]
    assert max(map(len, lines)) <= 100
    verdict = next(line for line in lines if line.startswith("total"))
    rows = lines[lines.index("") + 1 : lines.index(verdict) - 1]
    sizes = [printed_sizes(row)[-1] for row in rows]
    for row, item, (size, half) in zip(rows, plan["items"], sizes, strict=True):
        assert row.startswith(item["name"])
        assert abs(size - item["planned_bytes"]) <= half
    (total, half), (budget, _), (rest, half_rest) = printed_sizes(verdict)
    assert abs(sum(size for size, _ in sizes) - total) <= sum(one for _, one in sizes) + half
    assert abs(total - plan["total_bytes"]) <= half
    assert budget == 200 * MIB
    assert abs(total + rest - budget) <= half + half_rest


def test_shares_of_the_table_add_up_to_the_whole(model, tmp_path):
    done = tonnage(tmp_path, "plan", model, "--memory", "200MiB")
    shares = [float(text) for text in re.findall(r" (\d+\.\d)%$", done.stdout, re.MULTILINE)]
    assert len(shares) == len(planned(tmp_path, model, "--memory", "200MiB")["items"])
    assert abs(sum(shares) - 100) <= 0.05 * len(shares)


@pytest.mark.parametrize("memory", ["12GBB", "0", "0.5", "1.5", "-1", "lots", "12gibi", "900TiB"])
def test_a_wrong_budget_is_one_sentence(model, tmp_path, memory):
    refused(tonnage(tmp_path, "plan", model, f"--memory={memory}"))
    refused(tonnage(tmp_path, "run", model, "Hello", f"--memory={memory}"))


def test_a_budget_is_understood_in_any_case_and_by_every_command(model, tmp_path):
    assert planned(tmp_path, model, "--memory", "1gib")["budget_bytes"] == 1 << 30
    for command in (("bench", model, "--quick"), ("audit", model, "--chunks", "1")):
        assert "MiB" in refused(tonnage(tmp_path, *command, "--memory", "lots"))
        assert "short" in refused(tonnage(tmp_path, *command, "--memory", "3MiB"))


@pytest.mark.parametrize("quality", ["best", "-1", "nan"])
def test_a_wrong_quality_is_one_sentence(model, tmp_path, quality):
    refused(tonnage(tmp_path, "plan", model, f"--quality={quality}"))


@pytest.mark.parametrize(
    "options",
    [(), ("--precision", "4bit"), ("--kv", "int8")],
    ids=["as it is", "4bit", "int8 pages"],
)
@pytest.mark.parametrize("container", ["gguf", "folder"])
def test_a_tiny_model_stays_within_its_plan(model, folder, tmp_path, container, options):
    target = model if container == "gguf" else folder
    args = ("--memory", "100MiB", "--context", 2048, "--threads", 2, *options)
    plan = planned(tmp_path, target, *args)
    assert_kept(plan, answered(tmp_path, target, "Hello " * 40, "--max-tokens", 40, *args))


def test_the_ledger_is_printed_after_the_answer(model, tmp_path):
    done = tonnage(tmp_path, "run", model, "Hello", "--max-tokens", 2, "--ledger")
    assert (done.returncode, done.stderr) == (0, "")
    table = done.stdout[done.stdout.index("planned") :]
    assert all(word in table for word in ("now", "peak", "weights", "unaccounted", "process"))


@pytest.mark.slow
@pytest.mark.parametrize("name", BUDGETS)
def test_real_models_stay_within_their_plan(name, tmp_path):
    path = real_model(name)
    args = ("--memory", BUDGETS[name], "--context", 1024)
    plan = planned(tmp_path, path, *args)
    # The best of three, since others may be using the machine.
    bare = [COMMAND[0], "-c", "import json"]
    bare_s = min(seconds(lambda: subprocess.run(bare, check=True)) for _ in range(3))
    plan_s = min(seconds(lambda: planned(tmp_path, path, *args)) for _ in range(3))
    assert plan_s < 30 * bare_s
    assert plan["accepted"], plan
    prompt = "Write a story about the sea. " * 120  # about all of the context
    run = answered(tmp_path, path, prompt, "--max-tokens", 64, *args)
    assert_kept(plan, run)
    # All of the weights and pages are in use, so that planned and measured meet.
    difference = plan["total_bytes"] - run["peak_rss_bytes"]
    if name not in WITHOUT_TEMPLATE:
        assert difference <= max(8 * MIB, plan["total_bytes"] // 50), run
    assert run["peak_rss_bytes"] <= parse_bytes(BUDGETS[name])
