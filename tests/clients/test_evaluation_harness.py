"""lm-evaluation-harness scores choices through /v1/completions as it does through transformers.

100 made-up questions with four choices each, asked of the same weights by both of the harness's
own roads: token ids with echo and logprobs over HTTP, and transformers in float32 in this process.
`make harness` runs it; with SmolLM2 too where that was pulled.
"""

import random
from pathlib import Path
from typing import Any

import pytest

from support.live_server import NAME, live, write_chat_model
from support.models import real_model
from tonnage.engine.engine import Engine

QUESTIONS, CHOICES = 100, 4
# Questions that may be answered otherwise: activations of 8 bits decide where choices
# are close (docs/results/quality.md).
MOST_OTHERS = {"tiny": 0, "smollm2-135m": 6}
THINGS = ("apple", "river", "stone", "cloud", "horse", "paper", "light", "winter")
PLACES = ("on the table", "under a tree", "near the sea", "in the house")


def questions() -> list[tuple[str, list[str]]]:
    """Return contexts and what may follow them."""
    rng = random.Random(11)
    made = []
    for number in range(QUESTIONS):
        thing, place = rng.choice(THINGS), rng.choice(PLACES)
        context = f"Question {number}: What lies {place} beside the {thing}?\nAnswer:"
        made.append((context, [f" The {word} {place}" for word in rng.sample(THINGS, CHOICES)]))
    return made


def scores(model: Any) -> list[tuple[float, bool]]:
    """Return what the harness makes of every choice: its log-likelihood, and whether greedy."""
    from lm_eval.api.instance import Instance

    asked = [
        Instance("loglikelihood", {}, (context, choice), index)
        for context, choices in questions()
        for index, choice in enumerate(choices)
    ]
    return [(float(value), bool(is_greedy)) for value, is_greedy in model.loglikelihood(asked)]


def chosen(values: list[tuple[float, bool]]) -> list[int]:
    rows = [values[begin : begin + CHOICES] for begin in range(0, len(values), CHOICES)]
    return [max(range(CHOICES), key=lambda index: row[index][0]) for row in rows]


def dissenting(
    told: list[tuple[float, bool]], reference: list[tuple[float, bool]]
) -> list[tuple[int, float]]:
    """Return the questions that are answered otherwise, and by how many nats the reference leads.

    It leads over the choice that was told in its place.
    """
    pairs = enumerate(zip(chosen(told), chosen(reference), strict=True))
    return [
        (number, reference[number * CHOICES + right][0] - reference[number * CHOICES + other][0])
        for number, (other, right) in pairs
        if other != right
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", ["tiny", "smollm2-135m"])
def test_the_harness_chooses_what_it_does_with_transformers(which: str, tmp_path: Path) -> None:
    for module in ("lm_eval", "torch", "transformers"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    if which == "tiny":
        source = folder = write_chat_model(tmp_path / "hf")
        known: dict[str, Any] = {"pretrained": str(folder)}
    else:
        source, folder = real_model(which), tmp_path / "tokenizer"
        known = _from_gguf(source)
        known["tokenizer"].save_pretrained(folder)
    reference = scores(HFLM(**known, device="cpu", dtype="float32", batch_size=8))
    with (
        Engine.open(str(source), context=1024, threads=2, concurrency=8) as engine,
        live(engine) as server,
    ):
        client = LocalCompletionsAPI(
            base_url=f"{server.url}/v1/completions", model=NAME, tokenizer=str(folder),
            tokenized_requests=True, batch_size=4, max_retries=1,
        )  # fmt: skip
        told = scores(client)
    assert len(told) == QUESTIONS * CHOICES
    worst = max(abs(ours[0] - theirs[0]) for ours, theirs in zip(told, reference, strict=True))
    print(f"{which}: the largest difference of a choice's log-likelihood is {worst:.4f} nats")
    others = dissenting(told, reference)
    for number, lead in others:
        print(f"{which}: another choice in question {number}, where the best leads by {lead:.4f}")
    assert len(others) <= MOST_OTHERS[which]


def _from_gguf(file: Path) -> dict[str, Any]:
    """Return a GGUF file's weights, as they decode, and its tokenizer, both by transformers."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    wanted = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(**wanted, dtype="float32")
    return {"pretrained": model, "tokenizer": AutoTokenizer.from_pretrained(**wanted)}
