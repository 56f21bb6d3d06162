"""Conversations, tools, forms and logits in Python: what they mean over HTTP."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest

from support.live_server import TOOL_TEMPLATE, write_chat_model
from tonnage import BudgetError, ContextLengthError, Engine, RequestError, SamplingOptions

HI = [{"role": "user", "content": "Hello"}]
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["red", "blue"]}},
    "required": ["kind"],
    "additionalProperties": False,
}
PAINT = {"type": "function", "function": {"name": "paint", "parameters": SCHEMA}}
FORM = {"type": "json_schema", "json_schema": {"name": "paint", "schema": SCHEMA}}
FREE = SamplingOptions(temperature=3, min_p=0, top_k=0, top_p=1, max_tokens=200)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_chat_model(tmp_path_factory.mktemp("model") / "hf", TOOL_TEMPLATE))


@pytest.fixture(scope="module")
def engine(model):
    with Engine.open(model, context=1024, threads=1) as engine:
        yield engine


def test_a_text_has_the_form_that_was_asked_for(engine):
    for seed in range(4):
        whole = str(engine.chat(HI, FREE, response_format=FORM, seed=seed))
        assert json.loads(whole)["kind"] in ("red", "blue")
        texts = list(engine.generate("Hello", FREE, response_format=FORM, seed=seed))
        assert "".join(texts) == whole


def test_the_tables_of_a_form_become_an_item_of_the_ledger(model):
    with Engine.open(model, context=64, threads=1) as engine:
        assert "structured output" not in {item.name for item in engine.plan.items}
        str(engine.chat(HI, FREE, response_format={"type": "json_object"}, max_tokens=3))
        (entry,) = [one for one in engine.ledger().items if one.name == "structured output"]
        # As docs/serving.md states it. Of so small a vocabulary the heap may have had room before.
        assert entry.planned_bytes == (6 << 20) + 520 * engine.plan.vocab_size
        assert 0 <= entry.now_bytes <= entry.planned_bytes


def test_tables_that_do_not_fit_the_budget_are_refused_with_what_would(model):
    with Engine.open(model, context=64, threads=1) as engine:
        # Of 6 MiB that the tables take at least, one is there.
        engine._start = replace(engine._start, budget_bytes=engine.plan.total_bytes + (1 << 20))
        with pytest.raises(BudgetError, match=r"leaves 1\.0 MiB of the budget; open .* memory='"):
            engine.chat(HI, response_format={"type": "json_object"})


def test_a_tool_that_is_required_is_called(engine):
    wanted = {"tools": [PAINT], "tool_choice": "required", "seed": 5}
    several = engine.chat(HI, FREE, **wanted).complete().tool_calls
    assert {call.name for call in several} == {"paint"}
    made = engine.chat(HI, FREE, **wanted, parallel_tool_calls=False).complete()
    assert made.tool_calls[0].arguments == several[0].arguments
    (call,) = made.tool_calls
    assert (call.name, made.finish_reason, made.text) == ("paint", "tool_calls", "")
    assert json.loads(call.arguments)["kind"] in ("red", "blue")
    results = [made.message, {"role": "tool", "tool_call_id": call.call_id, "content": "done"}]
    assert engine.chat([*HI, *results], max_tokens=2).complete().finish_reason == "length"


def test_a_completion_runs_once_and_tells_what_came_of_it(engine):
    made = engine.chat(HI, max_tokens=4, temperature=0)
    with pytest.raises(RequestError, match="has not begun"):
        made.generation  # noqa: B018
    assert made.finish_reason is None
    assert "".join(made) == str(made) == "".join(made) == made.generation.text
    assert made.message == {"role": "assistant", "content": made.text}


def test_an_event_loop_awaits_and_iterates(engine):
    async def both() -> tuple[str, str, str]:
        awaited = await engine.chat(HI, max_tokens=6, temperature=0)
        parts = [text async for text in engine.chat(HI, max_tokens=6, temperature=0)]
        stream = await engine.stream("Hello", max_tokens=6, temperature=0)
        return awaited.text, "".join(parts), str(stream)

    plain = str(engine.generate("Hello", max_tokens=6, temperature=0))
    assert plain
    assert asyncio.run(both()) == (plain, plain, plain)


def test_a_conversation_beyond_the_context_is_refused_at_once(engine):
    with pytest.raises(ContextLengthError, match="the context holds 1,024"):
        engine.chat([{"role": "user", "content": "Hello " * 2000}])


def test_a_delta_prints_as_its_text(engine):
    async def texts() -> str:
        return "".join([f"{delta}" async for delta in engine.stream("Hello", FREE, seed=2)])

    assert asyncio.run(texts()) == str(engine.generate("Hello", FREE, seed=2))


def test_logits_are_those_that_a_token_is_sampled_from(engine):
    logits = np.frombuffer(engine.logits("Hello"), np.float32)
    assert len(logits) == engine.plan.vocab_size
    made = engine.generate("Hello", max_tokens=1, temperature=0, logprobs=3).complete()
    shifted = logits.astype(np.float64) - logits.max()
    expected = shifted - np.log(np.exp(shifted).sum())
    assert made.tokens[0] == logits.argmax()
    for token, logprob in made.logprobs[0].top:
        # Computed from float32 logits by other code: a few units in the last place.
        assert logprob == pytest.approx(expected[token], rel=1e-5)
    again = np.frombuffer(engine.logits("Hello"), np.float32)
    assert (again == logits).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"messages": "Hello"}, "messages is of type str"),
        ({"messages": [{"role": "robot", "content": ""}]}, "robot"),
        ({"messages": HI, "tools": [{"type": "function"}]}, "function"),
        ({"messages": HI, "response_format": {"type": "yaml"}}, "yaml"),
        ({"messages": HI, "tool_choice": "required"}, "no tool is given"),
        ({"messages": [{"role": "user", "content": object()}]}, "not what JSON can say"),
    ],
)
def test_what_cannot_be_obeyed_is_a_sentence(engine, call, words):
    with pytest.raises(RequestError, match=words):
        engine.chat(**call)


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"n_ctx": 2048}, "There is no option 'n_ctx'; here it is called context"),
        ({"n_gpu_layers": -1}, "Tonnage computes on the CPU"),
        ({"temp": 0}, "`generate` takes it, as temperature"),
    ],
)
def test_names_of_other_libraries_are_told_ours_when_opening(model, stated, words):
    with pytest.raises(TypeError, match=words):
        Engine.open(model, **stated)


def test_names_of_other_libraries_are_told_ours_when_generating(engine):
    with pytest.raises(TypeError, match="'max_new_tokens'; here it is called max_tokens"):
        engine.generate("Hello", max_new_tokens=3)
    with pytest.raises(TypeError, match=r"`Engine\.open` takes it, as context"):
        engine.generate("Hello", n_ctx=3)
