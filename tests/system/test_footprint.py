"""Planned bytes against measured ones, item by item, in processes of their own."""

import sys
from pathlib import Path
from typing import Any

import pytest

from support.checkpoints import FAMILIES, tiny_config, tiny_model, write_gguf, write_hf
from support.models import real_model
from support.own_process import run_json, run_program
from support.tiny_families import WIDE
from text_support import MODELS

MIB = 1 << 20
UNACCOUNTED_BYTES = 24 * MIB
# What is there while weights are loaded; a template and a sampler are made by the first answer.
LOADING = ("weights", "thread scratch", "load buffers", "tokenizer", "interpreter and libraries")
REAL = [
    pytest.param(path, marks=pytest.mark.slow, id=path.stem)
    for path in sorted(MODELS.glob("*.gguf"))
] or [pytest.param(None, marks=pytest.mark.slow, id="real")]


def tolerance(planned_bytes: int) -> int:
    return max(8 * MIB, planned_bytes // 50)


def check_items(told: dict[str, Any]) -> None:
    """Check every item at its peak, and what no item explains, in all phases of a run."""
    for phase in ("load", "prefill", "decode", "end"):
        ledger = told[phase]
        assert abs(ledger["unaccounted_bytes"]) <= UNACCOUNTED_BYTES, (phase, ledger)
        for item in ledger["items"]:
            assert item["now_bytes"] <= item["planned_bytes"] + tolerance(item["planned_bytes"])
    for item in told["end"]["items"]:
        planned = item["planned_bytes"]
        assert abs(item["peak_bytes"] - planned) <= tolerance(planned), item
    load = told["load"]
    planned = sum(i["planned_bytes"] for i in load["items"] if i["name"] in LOADING)
    assert abs(planned - load["peak_rss_bytes"]) <= tolerance(planned), (planned, load)
    total = told["end"]["total_bytes"]
    assert abs(total - told["peak_rss_bytes"]) <= tolerance(total), (total, told["peak_rss_bytes"])
    assert told["peak_rss_bytes"] <= total


@pytest.mark.parametrize("path", REAL)
def test_real_models_weigh_what_was_planned(path):
    if path is None:
        pytest.skip("no real model pulled")
    check_items(run_program("mixed_load", path, "--memory", "2GiB", "--context", 512))


@pytest.mark.parametrize("form", ["gguf", "folder"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_both_containers(family, form, tmp_path):
    model = tiny_model(tiny_config(family, **WIDE.get(family, {})), seed=1)
    path = write_gguf(tmp_path / "tiny.gguf", model)
    if form == "folder":
        path = write_hf(tmp_path / "hf", model)
        (path / "chat_template.jinja").write_text(
            "{% for m in messages %}{{ m.content }}{% endfor %}"
        )
    check_items(run_program("mixed_load", path, "--memory", "1GiB", "--context", 200))


def test_a_folder_that_is_quantized_on_the_way(tmp_path):
    path = write_hf(tmp_path / "hf", tiny_model(tiny_config("llama"), seed=1))
    args = (path, "--memory", "1GiB", "--context", 64, "--precision", "4bit")
    check_items(run_program("mixed_load", *args))


EMBEDDED = """
import json, sys
from tonnage.machine.memory_use import peak_rss_bytes
held = bytearray(b"x") * (100 << 20)
import asyncio, decimal, email.mime.text, sqlite3, unittest.mock  # a program of its own
from tonnage.engine.engine import Engine
with Engine.open(sys.argv[1], context=200, threads=2) as one:
    one.generate("Hello", max_tokens=190, ignore_eos=True).complete()
    with Engine.open(sys.argv[1], context=100, threads=1) as two:
        two.generate("Hello", max_tokens=90, ignore_eos=True).complete()
        ledgers = [engine.ledger().to_dict() for engine in (one, two)]
    alone = one.ledger().to_dict()
print(json.dumps({"ledgers": ledgers, "alone": alone, "peak_rss_bytes": peak_rss_bytes()}))
"""


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_engines_inside_of_a_program_that_holds_memory(real, tmp_path):
    if real:
        path = real_model()
    else:
        path = write_gguf(tmp_path / "tiny.gguf", tiny_model(tiny_config("llama"), seed=1))
    told = run_json([sys.executable, "-c", EMBEDDED, str(path)])
    for ledger in (*told["ledgers"], told["alone"]):
        assert abs(ledger["unaccounted_bytes"]) <= UNACCOUNTED_BYTES
        for item in ledger["items"]:
            assert abs(item["peak_bytes"] - item["planned_bytes"]) <= tolerance(
                item["planned_bytes"]
            )
        items = {item["name"]: item for item in ledger["items"]}
        assert items["interpreter and libraries"]["now_bytes"] > 100 * MIB
    assert "other engines" not in {item["name"] for item in told["alone"]["items"]}
    one, two = told["ledgers"]
    assert {item["name"] for item in one["items"]} == {item["name"] for item in two["items"]}
    # Each engine's plan has a tolerance of its own.
    planned, peak = two["total_bytes"], told["peak_rss_bytes"]
    assert peak <= planned <= peak + 2 * tolerance(planned)


def check_cycles(path: Path, num_cycles: int) -> None:
    """The first cycle brings libraries and pools that stay; what others add is a leak."""
    resident = run_program("cycles", path, num_cycles)["resident_bytes"]
    assert len(resident) == num_cycles
    assert max(resident) - resident[0] <= 4 * MIB, [size // MIB for size in resident]


@pytest.mark.parametrize("form", ["gguf", "folder"])
def test_opening_and_closing_leaves_nothing(form, tmp_path):
    model = tiny_model(tiny_config("qwen2", **WIDE["qwen2"]), seed=1)
    path = write_gguf(tmp_path / "tiny.gguf", model)
    check_cycles(path if form == "gguf" else write_hf(tmp_path / "hf", model), 50)


@pytest.mark.slow
def test_opening_and_closing_a_real_model_leaves_nothing():
    check_cycles(real_model(), 50)


def test_a_run_plans_what_the_plan_does(tmp_path):
    """A process that outgrew its item would plan more, and refuse what `tonnage plan` accepted."""
    model = write_gguf(tmp_path / "tiny.gguf", tiny_model(tiny_config("gemma2"), seed=1))
    command = [sys.executable, "-m", "tonnage"]
    options = (str(model), "--json", "--context", "200")
    planned = run_json([*command, "plan", *options])["total_bytes"]
    told = run_json([*command, "run", options[0], "Hi", *options[1:], "--ledger", "--raw"])
    assert told["total_bytes"] == planned
