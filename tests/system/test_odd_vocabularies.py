"""Embeddings with more or fewer rows than the tokenizer has tokens, through a whole engine."""

import json
from pathlib import Path

import pytest

from support.checkpoints import tiny_config, tiny_model, write_hf
from support.tiny_tokenizer import write_tokenizer_json
from tonnage import Engine
from tonnage.core.errors import RequestError
from tonnage.core.sampling import SamplingOptions

ROWS = 320


def folder_of(path: Path, num_tokens: int, **generation: object) -> str:
    folder = write_hf(path / "hf", tiny_model(tiny_config("llama", vocab_size=ROWS)))
    write_tokenizer_json(folder, num_tokens)
    if generation:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return str(folder)


def only(token_id: int, **changes: object) -> SamplingOptions:
    bias = {token_id: 100.0}
    return SamplingOptions(max_tokens=3, temperature=0, logit_bias=bias, **changes)


def test_rows_without_a_token_add_no_text(tmp_path):
    with Engine.open(folder_of(tmp_path, 300), concurrency=1) as engine:
        drawn = engine.generate_batch(["a"], [only(310, logprobs=5)], raw=True)[0]
        assert (list(drawn.tokens), drawn.text) == ([310] * 3, "")
        assert drawn.finish_reason == "length"
        assert engine.tokenizer.decode([97, 310, 98]) == engine.tokenizer.decode([97, 98])
        with pytest.raises(RequestError, match="320 is not in the vocabulary of 320 tokens"):
            engine.generate([97, ROWS])


def test_an_end_among_the_rows_without_token_ends_and_one_beyond_is_left_out(tmp_path, caplog):
    folder = folder_of(tmp_path, 300, eos_token_id=[310, 99999])
    with Engine.open(folder, concurrency=1) as engine:
        assert engine.tokenizer.eos_ids == {256, 310}
        assert engine.generate_batch(["a"], [only(310)], raw=True)[0].finish_reason == "stop"
    assert "99999" in caplog.text


def test_a_token_without_a_row_is_refused_for_its_prompt_alone(tmp_path):
    folder = folder_of(tmp_path, 400)
    with Engine.open(folder, concurrency=2) as engine:
        text = engine.tokenizer.decode([ROWS + 3])
        told = engine.generate_batch(["a", text, "b"], [only(97)] * 3, raw=True)
        assert [one.finish_reason for one in told] == ["length", "error", "length"]
        for prompt in (text, [ROWS + 3]):
            with pytest.raises(RequestError, match="323 is not in the vocabulary of 320 tokens"):
                engine.generate(prompt)
