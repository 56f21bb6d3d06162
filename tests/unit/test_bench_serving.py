"""The comparison of many prompts at once, run against stand-ins of the three engines."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from support.checkpoints import tiny_config, tiny_model, write_gguf
from tonnage.core.block_format import BY_NAME
from tonnage.formats.codec import dequantize
from tonnage.formats.gguf import GgufFile
from tonnage.formats.safetensors import open_safetensors
from tonnage.models.registry import spec_from_gguf, spec_from_hf

BENCH = Path(__file__).parents[2] / "bench"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def worker(path: Path, seconds: float, more: str = "") -> list[str]:
    path.write_text(
        "import json, sys\n"
        "rows = int(sys.argv[sys.argv.index('--rows') + 1])\n"
        f"print(json.dumps({{'build': {path.stem!r}, 'rows': rows, 'new_tokens': 64 * rows,"
        f"'seconds': [{seconds}, 9 * {seconds}, {seconds}], 'peak_rss_bytes': 2**20{more}}}))\n"
    )
    return [sys.executable, str(path)]


def test_ratios_are_those_of_medians(tmp_path, monkeypatch):
    serving = load("serving", monkeypatch)
    monkeypatch.setattr(serving.Ceiling, "now", classmethod(lambda cls, threads: cls(90, 1024.0)))
    engines = [
        serving.Side("Tonnage", worker(tmp_path / "ours.py", 0.5, ", 'macs': 10**9")),
        serving.Side("peer", worker(tmp_path / "theirs.py", 2.0)),
    ]
    monkeypatch.setattr(
        sys, "argv",
        ["serving.py", "m.gguf", "--rows", "8,32", "--runs", "2", "--repetitions", "3"],
    )  # fmt: skip
    args = serving.parsed()
    assert len(serving.measure(args, engines)) == 3
    ours, theirs = serving.summary(engines, 8, 1024.0)
    assert (ours["tokens_per_s"], theirs["tokens_per_s"]) == (1024.0, 256.0)
    assert (theirs["tonnage_ratio"], theirs["ratio_range"]) == (4.0, [4.0, 4.0])
    assert (ours["peak_rss_mib"], ours["peak_share"]) == (1.0, 2 * 1e9 / 0.5 / 1e9 / 1024)
    assert "peak_share" not in theirs


def test_every_engine_gets_the_same_prompts_and_no_prefix_twice(monkeypatch):
    module = load("serving_load", monkeypatch)
    one = module.Load(8, 128, 64, 2, 3)
    first, second = one.prompts(151936, 0), one.prompts(151936, 1)
    assert first == one.prompts(151936, 0)
    assert [len(prompt) for prompt in first] == [128] * 8
    assert len({tuple(prompt[:64]) for prompt in [*first, *second]}) == 16
    with pytest.raises(ValueError, match="not 64 each"):
        one.check([64] * 7 + [63])
    one.check([64] * 8)


def test_the_converted_folder_holds_the_same_model(tmp_path, monkeypatch):
    config = tiny_config("qwen2", head_dim=48, hidden_size=192)
    path = write_gguf(tmp_path / "m.gguf", tiny_model(config, seed=2))
    load("gguf_to_bf16", monkeypatch).convert(path, tmp_path / "hf")
    said = json.loads((tmp_path / "hf" / "config.json").read_text())
    catalog = open_safetensors(tmp_path / "hf")
    converted = spec_from_hf(said, catalog)
    with GgufFile.open(str(path)) as file:
        spec = spec_from_gguf(file.metadata, file.catalog)
        assert (converted.layers, converted.ropes) == (spec.layers, spec.ropes)
        assert converted.weights.keys() == spec.weights.keys()
        for name, entry in spec.weights.items():
            other = converted.weights[name]
            raw = (tmp_path / "hf" / "model.safetensors").read_bytes()
            size = BY_NAME["BF16"].nbytes(other.shape)
            begin = other.offset
            values = dequantize(other.format, raw[begin : begin + size], other.shape)
            # The tiny weights lie on the bfloat16 grid, so nothing is lost.
            wanted = dequantize(entry.format, file.tensor_buffer(entry.name), entry.shape)
            np.testing.assert_array_equal(values, wanted, err_msg=name)
