"""The reference transformer against Hugging Face's, on tiny random checkpoints of every family.

Transformers computes norms, ropes and softmaxes in float32 whatever the model's type, so here its
float32 is float64: both sides then differ by float64 roundings only.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from oracles.transformer import hidden_states, logits
from support.checkpoints import FAMILIES, TinyModel, tiny_config, tiny_model, write_hf
from support.containers import read_hf, weights_of
from support.described import described
from support.parity_cases import CASES
from tonnage.backends.reference.backend import ReferenceBackend
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.engine import Engine
from tonnage.models.registry import BY_HF_MODEL_TYPE, family_of, spec_from_hf

torch = pytest.importorskip("torch", reason="torch is not installed: parity not checked")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: parity not checked"
)


NUM_GREEDY = 64
KNOWN_TO_TRANSFORMERS = tuple(family for family in FAMILIES if family != "minicpm")


@contextlib.contextmanager
def float64_for_float32() -> Iterator[None]:
    """Make what transformers casts to float32 float64."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "float32", torch.float64)
        patch.setattr(torch, "float", torch.float64)
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(default)


def reference(folder: Path, model: TinyModel, ids: list[int]) -> list[np.ndarray]:
    """Return transformers' hidden states before each layer, and its logits."""
    with float64_for_float32(), torch.no_grad():
        out = loaded(folder, model)(torch.tensor([ids]), output_hidden_states=True, use_cache=False)
    # The last of its hidden states is normed already.
    states = [state[0].numpy() for state in out.hidden_states[:-1]]
    return [*states, out.logits[0].numpy()]


def loaded(folder: Path, model: TinyModel) -> object:
    """Return transformers' model with the weights in float64; within `float64_for_float32`."""
    config = referee_config(folder, model)
    net = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    state = {name: torch.from_numpy(w.astype(np.float64)) for name, w in model.weights.items()}
    report = net.double().load_state_dict(state, strict=False)
    assert not report.unexpected_keys
    assert set(report.missing_keys) <= {"lm_head.weight"}
    net.tie_weights()
    return net.eval()


def referee_config(folder: Path, model: TinyModel) -> object:
    """Return the config of the model that transformers runs.

    It does not have MiniCPM, whose layers are those of Granite with the factors of muP.
    """
    if model.family != "minicpm":
        return transformers.AutoConfig.from_pretrained(folder)
    depth, width = model["num_hidden_layers"], model["hidden_size"]
    config = {
        **model.config,
        "embedding_multiplier": model.config["scale_emb"],
        "residual_multiplier": model.config["scale_depth"] / depth**0.5,
        "attention_multiplier": model.k_dim**-0.5,
        "logits_scaling": width / model["dim_model_base"],
    }
    del config["model_type"]
    return transformers.AutoConfig.for_model("granite", **config)


def num_roundings(model: TinyModel, num_tokens: int) -> int:
    """Return how many float64 additions lie on the longest path to a logit."""
    width = model["num_attention_heads"] * model.k_dim
    layer = 5 * model["hidden_size"] + model["intermediate_size"] + 2 * width + 2 * num_tokens
    return model["num_hidden_layers"] * layer + 2 * model["hidden_size"]


@pytest.mark.parametrize("case", CASES)
def test_the_reference_equals_transformers(case: str, tmp_path: Path) -> None:
    model = tiny_model(CASES[case])
    folder = write_hf(tmp_path, model)
    ids = np.random.default_rng(1).integers(0, model["vocab_size"], 23).tolist()
    spec = spec_from_hf(*read_hf(folder))
    tensor = weights_of(spec)
    # What depends on the length there goes by the context here.
    ours_of = described(spec, len(ids))
    states = hidden_states(ours_of, tensor, ids)
    ours = [*states[:-1], logits(ours_of, tensor, states[-1])]
    theirs = reference(folder, model, ids)
    # Roundings of size eps, each relative to the largest value they met.
    tolerance = np.finfo(np.float64).eps * num_roundings(model, len(ids))
    assert len(ours) == len(theirs) == model["num_hidden_layers"] + 1
    for mine, other in zip(ours, theirs, strict=True):
        assert other.dtype == np.float64
        worst = np.abs(mine - other).max() / np.abs(other).max()
        assert worst < tolerance, f"{worst:.2e} against {tolerance:.2e}"


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_continuations_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    model = tiny_model(tiny_config(family))
    folder = write_hf(tmp_path, model)
    prompt = np.random.default_rng(3).integers(0, model["vocab_size"], 20).tolist()
    theirs = list(prompt)
    with float64_for_float32(), torch.no_grad():
        net = loaded(folder, model)
        for _ in range(NUM_GREEDY):
            theirs.append(int(net(torch.tensor([theirs]), use_cache=False).logits[0, -1].argmax()))
    options = SamplingOptions(temperature=0, max_tokens=NUM_GREEDY, ignore_eos=True)
    with Engine.open(str(folder), context=128, backend=ReferenceBackend()) as engine:
        ours = engine.generate(prompt, options).complete().tokens
    assert list(ours) == theirs[len(prompt) :]


@pytest.mark.parametrize("family", KNOWN_TO_TRANSFORMERS)
def test_a_config_that_transformers_saved_means_the_same(family: str, tmp_path: Path) -> None:
    model = tiny_model(tiny_config(family))
    folder = write_hf(tmp_path, model)
    written = spec_from_hf(*read_hf(folder))
    transformers.AutoConfig.from_pretrained(folder).save_pretrained(folder)
    assert spec_from_hf(*read_hf(folder)) == written


@pytest.mark.parametrize("family", KNOWN_TO_TRANSFORMERS)
def test_absent_settings_are_what_transformers_takes_them_for(family: str) -> None:
    config = transformers.AutoConfig.for_model(family).to_dict()
    ours = family_of(BY_HF_MODEL_TYPE[family]).hf_defaults
    # None here: derived from other settings. use_sliding_window False empties sliding_window.
    keys = {key for key in ours if ours[key] is not None and key in config}
    keys -= {"sliding_window"} if "use_sliding_window" in ours else set()
    assert keys
    assert {key: ours[key] for key in keys} == {key: config[key] for key in keys}
