"""GPT-2, which GGUF files alone bring: read, run, compared with transformers and llama.cpp."""

from pathlib import Path

import numpy as np
import pytest

from oracles.transformer import forward
from support.checkpoints import matrices
from support.containers import read_gguf, read_tensor, weights_of
from support.described import described
from support.logit_hashes import Case, digests, the_one
from support.runtime_parity import assert_parity
from support.tiny_gpt2 import SIZES, tiny_gpt2, write_gpt2
from tonnage.backends.reference.backend import ReferenceBackend
from tonnage.core.errors import RequestError, TensorMismatchError
from tonnage.core.plan import KV_FORMATS
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.engine import Engine
from tonnage.models.registry import spec_from_gguf
from tonnage.planner.quality.precision import precision_formats

KINDS = ("F32", "F16", "Q8_0", "Q4_1")


def test_what_a_file_says(tmp_path: Path) -> None:
    model = tiny_gpt2()
    spec = spec_from_gguf(*read_gguf(write_gpt2(tmp_path / "m.gguf", model)))
    assert (spec.family, spec.ropes, spec.context_length) == ("gpt2", (), 192)
    assert spec.weights["positions"].shape == (192, 96)
    for kind in ("", "_bias"):
        parts = [read_tensor(spec.weights[f"layers.1.{role}{kind}"]) for role in "qkv"]
        whole = model.weights[f"blk.1.attn_qkv.{'bias' if kind else 'weight'}"]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert dict(precision_formats(spec, "4bit"))["positions"] == "Q8_0"


def test_fewer_positions_than_the_file_says(tmp_path: Path) -> None:
    model = tiny_gpt2()
    model.weights["position_embd.weight"] = model.weights["position_embd.weight"][:100]
    with pytest.raises(TensorMismatchError, match=r"position_embd.* \(100, 96\) where \(192, 96\)"):
        spec_from_gguf(*read_gguf(write_gpt2(tmp_path / "m.gguf", model)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kv_format", KV_FORMATS)
def test_the_runtime_is_the_reference(kind: str, kv_format: str, tmp_path: Path) -> None:
    path = write_gpt2(tmp_path / "m.gguf", tiny_gpt2(), matrices(kind))
    assert_parity(spec_from_gguf(*read_gguf(path)), kv_format=kv_format)


@pytest.mark.parametrize("sizes", SIZES)
def test_odd_sizes(sizes: str, tmp_path: Path) -> None:
    path = write_gpt2(tmp_path / "m.gguf", tiny_gpt2(**SIZES[sizes]))
    assert_parity(spec_from_gguf(*read_gguf(path)))


@pytest.mark.parametrize("kind", KINDS)
def test_all_runs_agree_on_their_bits(kind: str, tmp_path: Path) -> None:
    path = write_gpt2(tmp_path / "m.gguf", tiny_gpt2(), matrices(kind))
    spec = spec_from_gguf(*read_gguf(path))
    for kv_format in KV_FORMATS:
        the_one(digests(spec, Case("gpt2"), kv_format))


def test_an_engine_plans_embeds_and_ends_with_its_positions(tmp_path: Path) -> None:
    path = str(write_gpt2(tmp_path / "m.gguf", tiny_gpt2(), matrices("F16")))
    with Engine.open(path, precision="4bit") as engine:
        assert engine.plan.context_tokens <= 192
        (vector,) = engine.embed([[5, 6, 7]])
        assert np.isfinite(vector.vector).all()
        prompt, greedy = list(range(90)), SamplingOptions(temperature=0, max_tokens=16)
        cold = engine.generate(prompt, greedy).complete().tokens
        again = engine.generate(prompt, greedy)
        assert again.complete().tokens == cold
        assert again.num_cached_tokens >= 64
    with pytest.raises(RequestError, match="192"):
        Engine.open(path, context=193)


@pytest.mark.parametrize("sizes", SIZES)
def test_the_reference_equals_transformers(sizes: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: parity not checked")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model = tiny_gpt2(**SIZES[sizes])
    tokens = np.random.default_rng(1).integers(0, model.config["vocab_size"], 40).tolist()
    net = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**model.config, attn_implementation="eager")
    ).double()
    state = {name: torch.from_numpy(w.astype(np.float64)) for name, w in model.state().items()}
    report = net.load_state_dict(state, strict=False)
    assert not report.unexpected_keys
    assert {*report.missing_keys} <= {"lm_head.weight"}
    net.tie_weights()
    with torch.no_grad():
        theirs = net.eval()(torch.tensor([tokens])).logits[0].numpy()
    spec = spec_from_gguf(*read_gguf(write_gpt2(tmp_path / "m.gguf", model)))
    ours = forward(described(spec), weights_of(spec), tokens)
    # Transformers' softmax is of float64 here, so both sides differ by float64 roundings.
    roundings = model.config["n_layer"] * (9 * model.config["n_embd"] + 2 * model.config["n_inner"])
    tolerance = np.finfo(np.float64).eps * (roundings + 80)
    assert np.abs(ours - theirs).max() / np.abs(theirs).max() < tolerance
    if sizes == "as it is":
        text = list(tokens)
        with torch.no_grad():
            for _ in range(64):
                text.append(int(net(torch.tensor([text])).logits[0, -1].argmax()))
        options = SamplingOptions(temperature=0, max_tokens=64, ignore_eos=True)
        with Engine.open(str(tmp_path / "m.gguf"), backend=ReferenceBackend()) as engine:
            made = engine.generate(tokens, options).complete().tokens
        assert [*tokens, *made] == text
