"""The reference transformer on tiny GGUF files against llama.cpp, which reads the same files.

Names of architectures, tensors and settings are its own, and so is what absent settings mean.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from oracles.transformer import forward
from support.checkpoints import tiny_config, tiny_model, write_gguf
from support.containers import read_gguf, weights_of
from support.described import described
from support.parity_cases import LLAMACPP_CASES
from support.tiny_families import WIDE
from support.tiny_gpt2 import tiny_gpt2, write_gpt2
from tonnage.models.registry import spec_from_gguf

pytest.importorskip("xllamacpp", reason="xllamacpp is not installed: llama.cpp not compared")

PROBE = Path(__file__).parents[1] / "support" / "llamacpp_logprobs.py"
NUM_TOKENS = 40


def theirs(path: Path, tokens: list[int]) -> dict[int, float]:
    """Return llama.cpp's log probabilities of what follows."""
    run = subprocess.run(
        [sys.executable, PROBE, path, json.dumps(tokens)],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
    lines = [line for line in run.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, run.stderr[-2000:]
    return {int(token): value for token, value in json.loads(lines[0][7:]).items()}


def test_gpt2(tmp_path: Path) -> None:
    model = tiny_gpt2()
    path = write_gpt2(tmp_path / "m.gguf", model)
    sizes = (3, model.config["n_embd"], model.config["n_inner"])
    assert_same_as_llamacpp(path, *sizes)


@pytest.mark.parametrize("case", LLAMACPP_CASES)
def test_the_reference_equals_llamacpp(case: str, tmp_path: Path) -> None:
    family, changes = LLAMACPP_CASES[case]
    model = tiny_model(tiny_config(family, **{**WIDE.get(family, {}), **changes}))
    path = write_gguf(tmp_path / "m.gguf", model)
    sizes = (model["num_hidden_layers"], model["hidden_size"], model["intermediate_size"])
    assert_same_as_llamacpp(path, *sizes)


def assert_same_as_llamacpp(path: Path, layers: int, width: int, hidden: int) -> None:
    """Assert that the reference says of what follows random tokens what llama.cpp says."""
    spec = spec_from_gguf(*read_gguf(path))
    tokens = np.random.default_rng(1).integers(0, spec.vocab_size, NUM_TOKENS).tolist()
    ours = forward(described(spec), weights_of(spec), tokens)[-1]
    ours = ours - ours.max() - np.log(np.exp(ours - ours.max()).sum())
    found = theirs(path, tokens)
    assert len(found) == spec.vocab_size
    worst = max(abs(ours[token] - value) for token, value in found.items())
    additions = layers * (6 * width + 2 * hidden + NUM_TOKENS)
    tolerance = np.finfo(np.float32).eps * 4 * math.sqrt(additions) * np.abs(ours).max()
    if described(spec).layers[0].activation.startswith("gelu"):
        # GELU comes from a table of float16.
        tolerance += layers * float(np.finfo(np.float16).eps)
    assert worst < tolerance, f"{worst:.2e} against {tolerance:.2e}"
