"""`tonnage whatif` as a user meets it."""

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
    text = tonnage(tmp_path, "whatif", "--list").stdout
    names = [line.split()[0] for line in text.splitlines()[1:]]
    assert {"h100-sxm", "tpu-v5e", "raspberry-pi-5", "m4-max"} <= set(names)
    listed = json.loads(tonnage(tmp_path, "whatif", "--list", "--json").stdout)
    assert [machine["name"] for machine in listed["machines"]] == names


def test_a_forecast_and_its_json(tmp_path, model):
    args = ("whatif", model, "--machine", "h100-sxm", "--machine", "jetson-agx-orin-64gb")
    text = tonnage(tmp_path, *args).stdout
    for words in ("fits     in hbm", "tokens/s, limited by", "J per decoded token", "USD per"):
        assert words in text
    assert "unknown  The bandwidth of tier lpddr is not known" in text
    first, again = (tonnage(tmp_path, *args, "--json").stdout for _ in range(2))
    assert first == again
    answer = json.loads(first)
    h100, orin = answer["machines"]
    assert h100["fits"]
    assert h100["decode"]["tokens_per_s"] > 0
    assert h100["sources"]["lock_h100"].startswith("https://")
    assert orin["decode"] is None
    assert answer["held_bytes"] > answer["decode_read_bytes"] > 0


def test_a_file_of_ones_own(tmp_path, model):
    file = tmp_path / "box.toml"
    tier = '[[device.box.tier]]\nname = "ram"\nrole = "memory"\ncapacity_bytes = 100\n'
    file.write_text(f'[device.box]\nname = "Box"\n{tier}')
    text = tonnage(tmp_path, "whatif", model, "--machine", file).stdout
    assert "box: Box" in text
    assert "bytes (" in text
    assert "of them would hold it" in text


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "No machine was named"),
        (("--machine", "h10"), "did you mean h100-sxm?"),
        (("--machine", "no/file.toml"), "cannot be read"),
        (("--machine", "l4", "--context", "0"), "A context of 0 tokens was asked for"),
        (("--machine", "l4", "--precision", "3bit"), "'3bit' is unknown"),
    ],
)
def test_bad_input_is_a_sentence(tmp_path, model, args, words):
    assert words in refused(tonnage(tmp_path, "whatif", model, *args))
