"""The commands around `run`: help, names, models, doctor, bench."""

import json
import re
from pathlib import Path

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from support.command import refused, tonnage
from tonnage import __version__
from tonnage.cli.arguments import COMMANDS


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_gguf(path, tiny_model(tiny_config("llama")), matrices("Q8_0"))


def test_version_and_help(tmp_path):
    assert tonnage(tmp_path, "--version").stdout == f"tonnage {__version__}\n"
    bare, asked = tonnage(tmp_path), tonnage(tmp_path, "--help")
    assert bare.returncode == asked.returncode == 0
    assert bare.stdout == asked.stdout
    for command in COMMANDS:
        assert f"\n    {command} " in bare.stdout
        assert tonnage(tmp_path, command, "--help").returncode == 0


def test_help_of_bench_defines_the_shares(tmp_path):
    text = tonnage(tmp_path, "bench", "--help").stdout
    assert "weight_bytes_per_token x steps per second / read bandwidth" in text
    assert "2 x multiply-adds of the weight matrices / time / int8 peak" in text


@pytest.mark.parametrize(("word", "meant"), [("rnu", "run"), ("lsit", "list"), ("benhc", "bench")])
def test_an_unknown_command_is_told_the_nearest(tmp_path, word, meant):
    assert f"did you mean {meant}" in refused(tonnage(tmp_path, word, "x"))


@pytest.mark.parametrize(
    "args", [("run", "x", "y", "z"), ("run", "--frob"), ("--frob",), ("pull",)]
)
def test_a_malformed_command_line_exits_with_2(tmp_path, args):
    done = tonnage(tmp_path, *args)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_an_unknown_model_is_told_the_nearest(tmp_path):
    for args in (("run", "smolm2-135", "Hi"), ("pull", "smolm2-135"), ("bench", "smolm2-135")):
        assert "did you mean smollm2-135m" in refused(tonnage(tmp_path, *args))


def test_debug_adds_the_traceback(tmp_path):
    done = tonnage(tmp_path, "run", "smolm2-135", "Hi", "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "tonnage: No catalog has" in done.stderr


def test_list_shows_names_sizes_and_states(tmp_path):
    rows = json.loads(tonnage(tmp_path, "list", "--json").stdout)
    (row,) = (row for row in rows if row["name"] == "smollm2-135m")
    assert row["state"] == "not pulled"
    assert (row["num_bytes"], row["have_bytes"]) == (98_362_432, 0)
    assert (row["kind"], row["licence"]) == ("instruct", "Apache-2.0")
    assert (row["owner"], row["publisher"]) == ("HuggingFaceTB", "Simon Willison")
    (row,) = (row for row in rows if row["name"] == "qwen3-0.6b")
    assert (row["num_bytes"], row["path"], row["owner"]) == (None, None, "Qwen")
    assert row["source"].startswith("hf:Qwen/Qwen3-0.6B-GGUF/")
    lines = tonnage(tmp_path, "list").stdout.splitlines()
    (line,) = (line for line in lines if line.startswith("smollm2-135m "))
    assert re.split("  +", line) == [
        "smollm2-135m", "instruct", "93.8 MiB", "HuggingFaceTB (Simon Willison)", "Apache-2.0",
        "not pulled",
    ]  # fmt: skip


def test_rm_frees_what_was_there(tmp_path):
    folder = tmp_path / "cache" / "tonnage" / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "mine.gguf").write_bytes(bytes(2048))
    assert tonnage(tmp_path, "rm", "mine").stdout == "mine: 2.0 KiB freed\n"
    assert not folder.exists()
    assert "No model 'mine' is pulled" in refused(tonnage(tmp_path, "rm", "mine"))


def test_pull_of_a_path_is_that_path(tmp_path, model):
    assert tonnage(tmp_path, "pull", model).stdout == f"{model}\n"


def test_doctor_reports_the_machine_and_its_ceilings(tmp_path, model):
    report = json.loads(tonnage(tmp_path, "doctor", "--json", "--disk", model).stdout)
    assert report["machine"]["isa"] in ("scalar", "avx2", "avx512")
    assert report["int8_peak"]["gops"] > 0
    assert report["disk_read"]["file"] == str(model)
    assert len(report["read_bandwidth"]) >= 1


def test_bench_puts_speeds_beside_ceilings_of_the_same_run(tmp_path, model):
    args = ("bench", model, "--quick", "--rows", "1,4", "--prefill", "64,128,9999", "--json")
    report = json.loads(tonnage(tmp_path, *args).stdout)
    assert report["model"] == str(model)
    assert [row["rows"] for row in report["decode"]] == [1, 4]
    # 9,999 tokens are more than the model was made for.
    assert [row["tokens"] for row in report["prefill"]] == [64, 128]
    for row in report["decode"]:
        steps_per_s = row["tokens_per_s"] / row["rows"]
        read = report["weight_bytes_per_token"] * steps_per_s / 1e9
        assert row["bandwidth_share"] == pytest.approx(read / row["read_bandwidth_gb_s"])
        assert 0 < row["peak_share"] < 1
    for row in report["prefill"]:
        assert 0 < row["peak_share"] < 1
    assert report["read_bandwidth_gb_s"] > 0
    assert report["int8_peak_gops"] > 0
    assert 0 < report["cold_start_s"] < 60
    assert 10 << 20 < report["peak_rss_bytes"] < 200 << 20


@pytest.mark.parametrize("rows", ["0", "1,x", "-3", "1000000", "1;2"])
def test_bench_refuses_nonsense(tmp_path, model, rows):
    assert "--rows" in refused(tonnage(tmp_path, "bench", model, f"--rows={rows}"))
