"""`tonnage plan --machine` as a user meets it."""

import json
from pathlib import Path

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from support.command import refused, tonnage


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_gguf(path, tiny_model(tiny_config("llama")), matrices("Q8_0"))


def test_list_and_its_json(tmp_path):
    text = tonnage(tmp_path, "plan", "--machines").stdout
    names = [line.split()[0] for line in text.splitlines()[1:]]
    assert {"h100-sxm", "tpu-v5e", "raspberry-pi-5", "m4-max"} <= set(names)
    listed = json.loads(tonnage(tmp_path, "plan", "--machines", "--json").stdout)
    assert [machine["name"] for machine in listed["machines"]] == names


def test_a_forecast_and_its_json(tmp_path, model):
    args = ("plan", model, "--machine", "h100-sxm", "--machine", "jetson-agx-orin-64gb")
    text = tonnage(tmp_path, *args).stdout
    for words in ("fits     in hbm", "tokens/s, limited by", "J per decoded token", "USD per"):
        assert words in text
    assert "unknown  The bandwidth of tier lpddr is not known" in text
    first, again = (tonnage(tmp_path, *args, "--json").stdout for _ in range(2))
    assert first == again
    h100, orin = json.loads(first)["machines"]
    machine = h100["machine"]
    assert (h100["accepted"], machine["fits"]) == (True, True)
    assert h100["budget_bytes"] == 80 << 30
    assert h100["forecast"]["decode_tokens_per_s"] == machine["decode"]["tokens_per_s"] > 0
    assert h100["forecast"]["bottleneck"] == machine["decode"]["bottleneck"]
    assert machine["sources"]["lock_h100"].startswith("https://")
    assert machine["held_bytes"] > machine["decode_read_bytes"] > 0
    assert (orin["forecast"], orin["machine"]["decode"]) == (None, None)


def box(folder: Path, capacity_bytes: int, more: str = "") -> Path:
    file = folder / "box.toml"
    tier = (
        f'[[device.box.tier]]\nname = "ram"\nrole = "memory"\ncapacity_bytes = {capacity_bytes}\n'
    )
    file.write_text(f'[device.box]\nname = "Box"\n{tier}{more}')
    return file


def test_a_file_of_ones_own_is_the_budget(tmp_path, model):
    done = tonnage(tmp_path, "plan", model, "--machine", box(tmp_path, 100))
    assert done.returncode == 2
    assert "box: Box" in done.stdout
    assert "are what ram of box holds" in done.stderr
    small = "--quality", "small", "--context", 256
    tight = tonnage(tmp_path, "plan", model, "--machine", box(tmp_path, 1 << 20), *small)
    assert "short" in tight.stdout
    fits = tonnage(tmp_path, "plan", model, "--machine", box(tmp_path, 1 << 30), *small)
    assert (fits.returncode, fits.stderr) == (0, "")
    assert "The bandwidth of tier ram is not known" in fits.stdout


def test_a_machine_that_holds_less_is_asked_for_no_more(tmp_path, model):
    done = tonnage(tmp_path, "plan", model, "--machine", box(tmp_path, 1 << 30), "--memory", "2GiB")
    assert "ram of box holds 1.0 GiB" in refused(done)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--machine", "h10"), "did you mean h100-sxm?"),
        (("--machine", "no/file.toml"), "cannot be read"),
        (("--machine", "l4", "--memory", "9TiB"), "state at most that"),
        (("--machine", "l4", "--context", "0"), "A context of 0 tokens was asked for"),
        (("--machine", "l4", "--precision", "3bit"), "'3bit' is unknown"),
    ],
)
def test_bad_input_is_a_sentence(tmp_path, model, args, words):
    assert words in refused(tonnage(tmp_path, "plan", model, *args))
