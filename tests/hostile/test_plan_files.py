"""Damaged and hostile plan files: a sentence each, or the plan that was written."""

import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from support.command import refused, tonnage
from tonnage.backends.cpu.layout.cpu_layout import CpuLayout
from tonnage.core.errors import PlanFileError
from tonnage.core.model_spec import ModelSpec
from tonnage.engine.headers import read_spec
from tonnage.engine.plan_files import plan_file_of, read_plan_file
from tonnage.engine.planning import plan
from tonnage.machine.host import read_machine
from tonnage.planner.plan_file import MAX_FILE_BYTES, checked_choice, parse_plan_file
from tonnage.planner.search.choose import PlanChoice
from tonnage.store.source import ModelSource

MACHINE = read_machine()
NUMBERS = (-1, 0, 1, 63, 2**31, 2**63, 2**70, -(2**63), 10**400, 1e308, 1.5, -0.0)
OTHERS = ("", "x", "Q4_K", "../../etc/passwd", "\x1b[2J", None, True, [], {}, [[]], {"a": 1})


class Written:
    """A plan file of a tiny model, and what it says."""

    def __init__(self, folder: Path) -> None:
        config = tiny_config(
            "qwen2", max_position_embeddings=1 << 12, hidden_size=128, num_hidden_layers=1
        )
        self.path = write_gguf(folder / "tiny.gguf", tiny_model(config, seed=3), matrices("Q8_0"))
        self.source = ModelSource(str(self.path), self.path, "gguf")
        self.spec: ModelSpec = read_spec(self.source)
        self.choice = plan(str(self.path), context=128, threads=1, quality="small")
        file = plan_file_of(self.choice, self.source, self.spec, MACHINE, None)
        self.text = file.to_json()
        self.raw = json.loads(self.text)
        self.places = sorted(places(self.raw), key=str)
        self.few = [place for place in self.places if place and place[0] != "plan"]

    def read(self, data: bytes) -> PlanChoice:
        return checked_choice(parse_plan_file(data, "plan.json"), self.spec, MACHINE, CpuLayout())


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Written:
    return Written(tmp_path_factory.mktemp("plan"))


def places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every value."""
    yield at
    if isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(one, (*at, key))


def at(raw: Any, place: tuple) -> Any:
    for key in place:
        raw = raw[key]
    return raw


def dumped(raw: Any) -> bytes:
    return json.dumps(raw).encode()


def check_sentence(text: str) -> None:
    assert text.endswith(".")
    assert len(text) < 1500


def check(written: Written, data: bytes) -> bool:
    """Check that `data` is refused in a sentence, or says what was written; return the latter."""
    try:
        found = written.read(data)
    except PlanFileError as error:
        check_sentence(str(error))
        return False
    assert found.plan == written.choice.plan
    return True


def test_what_was_written_is_read(written):
    assert check(written, written.text.encode())
    assert json.loads(parse_plan_file(written.text.encode(), "p").to_json()) == written.raw


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_value_replaced_is_refused_or_without_effect(written, data):
    raw = deepcopy(written.raw)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(written.places[1:]) | st.sampled_from(written.few))
        other = at(written.raw, data.draw(st.sampled_from(written.places[1:])))
        value = data.draw(st.sampled_from((*NUMBERS, *OTHERS, float("nan"), float("inf"), other)))
        try:
            at(raw, place[:-1])[place[-1]] = deepcopy(value)
        except (KeyError, IndexError, TypeError):
            continue  # what was replaced before held it
    check(written, dumped(raw))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_anything_left_out_added_or_doubled_is_refused(written, data):
    raw = deepcopy(written.raw)
    containers = [p for p in written.places if isinstance(at(raw, p), dict | list)]
    inside = at(raw, data.draw(st.sampled_from(containers)))
    if isinstance(inside, dict):
        if inside and data.draw(st.booleans()):
            del inside[data.draw(st.sampled_from(sorted(inside)))]
        else:
            inside["more"] = 1
    elif inside and data.draw(st.booleans()):
        del inside[data.draw(st.integers(0, len(inside) - 1))]
    else:
        inside.append(inside[0] if inside else 1)
    assert not check(written, dumped(raw))


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 1 << 20), st.binary(max_size=16), st.integers(0, 64))
def test_cut_short_or_with_other_bytes(written, place, patch, gone):
    text = written.text.encode()
    place %= len(text)
    check(written, text[:place] + patch + text[place + gone :])
    assert not check(written, text[: place // 2])


def moved(raw: dict) -> None:
    raw["plan"]["matrices"][1]["offset"] = raw["plan"]["matrices"][0]["offset"]


def beyond(raw: dict) -> None:
    raw["plan"]["matrices"][0]["source"]["offset"] = 1 << 40


def larger(raw: dict) -> None:
    raw["plan"]["arena_bytes"] = 1 << 50


def nameless(raw: dict) -> None:
    raw["plan"]["steps"][0]["table"] = "no such table"


def outside(raw: dict) -> None:
    raw["plan"]["buffers"][0]["offset"] = -64


def longer(raw: dict) -> None:
    raw["workload"]["context_tokens"] = 1 << 40


def later(raw: dict) -> None:
    raw["format"] += 1
    raw["news"] = {}


def earlier(raw: dict) -> None:
    raw["format"] -= 1
    raw["workload"]["precision"] = None


DAMAGE: list[tuple[Callable[[dict], None], str]] = [
    (moved, "matrices"), (beyond, "source"), (larger, "arena_bytes"), (nameless, "steps"),
    (outside, "buffers"), (longer, "context"), (later, "later version"),
    (earlier, "earlier version"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "word"), DAMAGE)
def test_damage_is_named(written, damage, word):
    raw = deepcopy(written.raw)
    damage(raw)
    with pytest.raises(PlanFileError, match=word):
        written.read(dumped(raw))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"null", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"NaN",
        b'{"format": 2}', b'{"format": true}', b'{"format": 1e400}', b'{"format": -1}',
        b'{"format": ' + b"9" * 5000 + b"}", b"0" * 1000,
    ],
    ids=lambda data: repr(data[:12]),
)  # fmt: skip
def test_what_is_no_plan_at_all(written, data):
    assert not check(written, data)


def test_a_gigabyte_is_refused_without_being_read(tmp_path):
    path = tmp_path / "plan.json"
    with path.open("wb") as stream:
        stream.truncate(1 << 30)
    tracemalloc.start()
    try:
        with pytest.raises(PlanFileError, match="larger than 4"):
            read_plan_file(path)
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_FILE_BYTES
    finally:
        tracemalloc.stop()
    for wrong in (tmp_path, tmp_path / "gone.json", Path(os.devnull)):
        with pytest.raises(PlanFileError):
            read_plan_file(wrong)


def test_every_command_ends_with_a_sentence_and_loads_nothing(written, tmp_path):
    for number, (damage, word) in enumerate(DAMAGE[:3] + DAMAGE[-1:]):
        raw = deepcopy(written.raw)
        damage(raw)
        path = tmp_path / f"{number}.json"
        path.write_bytes(dumped(raw))
        assert word in refused(tonnage(tmp_path, "run", "--plan", path, text="Hi"))
    path.write_bytes(written.text.encode()[:-100])
    sentence = refused(tonnage(tmp_path, "serve", "--plan-file", path, "--port", "0"))
    assert "no plan file" in sentence
