"""Speculation changes nothing but the number of steps: option, plan, texts and counts."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from tonnage.cli import main
from tonnage.core.errors import RequestError
from tonnage.core.plan import KV_FORMATS
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.engine import Engine
from tonnage.speculation.speculation import MOST_DRAFTS

PROMPT = [3, 4, 5, 6, 7, 8, 9] * 6
OPTIONS = (
    SamplingOptions(temperature=0, max_tokens=80, ignore_eos=True),
    SamplingOptions(temperature=0.05, top_p=0.9, seed=4, max_tokens=80, ignore_eos=True),
    SamplingOptions(temperature=1, seed=5, repetition_penalty=1.2, max_tokens=40, logprobs=2),
    SamplingOptions(temperature=0, max_tokens=7),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    made = tiny_model(tiny_config("llama", max_position_embeddings=512), seed=1)
    return write_gguf(path, made, matrices("Q8_0"))


def run(model: Path, speculate: str, **options: Any) -> tuple[list[Any], Any]:
    with Engine.open(str(model), context=256, speculate=speculate, **options) as engine:
        made = engine.generate_batch([PROMPT] * len(OPTIONS), OPTIONS)
        return [(one.tokens, one.logprobs, one.finish_reason) for one in made], engine.draft_counts


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kv_format", KV_FORMATS)
@pytest.mark.parametrize("concurrency", [1, 4])
def test_tokens_and_probabilities_are_the_same(
    model: Path, threads: int, kv_format: str, concurrency: int
) -> None:
    kinds: Any = {"threads": threads, "kv_format": kv_format, "concurrency": concurrency}
    plain, nothing = run(model, "off", **kinds)
    told, counts = run(model, "suffix", **kinds)
    assert told == plain
    assert nothing is None
    assert 0 <= counts.accepted <= counts.drafted


def test_a_text_that_repeats_itself_takes_fewer_steps(model: Path) -> None:
    """A bias makes one token follow for ever; rows of so small a model cost next to nothing."""
    options = SamplingOptions(temperature=0, max_tokens=200, ignore_eos=True, logit_bias={9: 100.0})
    with Engine.open(str(model), context=512, threads=1, speculate="suffix") as engine:
        made = engine.generate(PROMPT, options).complete()
        counts = engine.draft_counts
    assert list(made.tokens) == [9] * 200
    assert counts is not None
    assert counts.accepted > 100
    assert counts.accepted >= 0.9 * counts.drafted


def test_the_plan_has_the_rows(model: Path, tmp_path: Path, capsys: Any) -> None:
    def planned(*more: str) -> dict[str, Any]:
        assert main(["plan", str(model), "--context", "256", "--json", *more]) == 0
        return dict(json.loads(capsys.readouterr().out))

    file = tmp_path / "plan.json"
    planned("--speculate", "suffix", "-o", str(file))
    with Engine.open(plan=file, speculate="suffix") as engine:
        assert engine.plan.max_logit_rows == 1 + MOST_DRAFTS


def test_a_plan_without_rows_for_drafts_is_refused(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    assert main(["plan", str(model), "--context", "256", "-o", str(file), "--json"]) == 0
    with pytest.raises(RequestError, match="none are left for drafts"):
        Engine.open(plan=file, speculate="suffix")


def test_json_says_what_drafts_gave(model: Path, capsys: Any) -> None:
    words = ["run", str(model), "aaaa" * 9, "--raw", "--json", "--max-tokens", "20"]
    assert main([*words, "--speculate", "suffix", "--context", "256"]) == 0
    drafts = json.loads(capsys.readouterr().out)["drafts"]
    assert drafts.keys() == {"steps", "drafted", "accepted", "won_ns"}
    assert main([*words, "--context", "256"]) == 0
    assert "drafts" not in json.loads(capsys.readouterr().out)
