"""Options are described once: command line, Python and planner know the same ones."""

import inspect
from dataclasses import fields
from importlib import import_module
from typing import Annotated, TypedDict, get_type_hints

import numpy as np
import pytest

from tonnage import cli
from tonnage.cli.arguments import COMMANDS, parse
from tonnage.cli.opening import stated
from tonnage.core.errors import RequestError, UnitError
from tonnage.core.options import Option, check_ranges, current, described
from tonnage.core.sampling import SamplingOptions, SamplingOverrides
from tonnage.engine.engine import Engine
from tonnage.engine.opening import constraints_of, serving_of
from tonnage.engine.options import EngineOptions, MemoryOptions, ModelOptions, PlanOptions
from tonnage.planner.search.constraints import Constraints

GROUPS = (MemoryOptions, EngineOptions, SamplingOptions)
# What an option says on the command line, and what it is in Python.
SAID = {
    "context": ("64", 64), "max_batch_tokens": ("32", 32), "concurrency": ("3", 3),
    "quality": ("high", "high"), "threads": ("2", 2), "precision": ("8bit", "8bit"),
    "kv_format": ("int8", "int8"), "prefix_cache": ("1GiB", "1GiB"),
    "speculate": ("suffix", "suffix"),
}  # fmt: skip


class Sizes(TypedDict, total=False):
    width: Annotated[int, Option(help="how wide", unit="N", default=3, low=1, high=9)]
    far: Annotated[float | None, Option(help="how far", former=("distance",))]


def test_what_is_described_is_name_type_default_and_help():
    width, far = described(Sizes)
    assert (width.name, width.kind, width.flag, width.help) == (
        "width", int, "--width", "how wide (3)",
    )  # fmt: skip
    assert (far.name, far.kind, far.flag, far.help) == ("far", float, "--far", "how far")


def test_a_range_is_kept_and_named_as_the_caller_writes_it():
    check_ranges(Sizes, {"width": 9, "far": -1.0}.get)
    check_ranges(Sizes, {}.get)
    with pytest.raises(RequestError, match=r"^width is 10; it must lie between 1 and 9\."):
        check_ranges(Sizes, {"width": 10}.get)
    with pytest.raises(RequestError, match=r"^--width is 0"):
        check_ranges(Sizes, {"width": 0}.get, flags=True)


def test_a_former_name_is_taken_with_a_warning_and_an_unknown_one_is_not():
    with pytest.warns(DeprecationWarning, match="distance is called far now"):
        assert current(Sizes, {"distance": 2.5, "width": 4}) == {"far": 2.5, "width": 4}
    with pytest.raises(TypeError, match="'widht'; did you mean width"):
        current(Sizes, {"widht": 4})


def test_the_planner_knows_every_option_of_a_plan():
    known = {field.name for field in fields(Constraints)} | {"quality"}
    assert {one.name for one in described(PlanOptions)} <= known


def test_every_option_of_an_engine_arrives_from_the_command_line():
    words = [word for name, (said, _) in SAID.items() for word in (_flag(name), said)]
    args = parse(["serve", "m", "--offline", "--use-audits", "--catalog", "c.toml", *words])
    options: EngineOptions = stated(EngineOptions, args)
    assert str(options.pop("catalog")) == "c.toml"
    expected = {name: value for name, (_, value) in SAID.items()}
    assert options == {"offline": True, "use_audits": True, **expected}
    flags = {one.name for one in described(EngineOptions) if one.flag is not None}
    assert flags == {"catalog", *options}


def _flag(name: str) -> str:
    return {one.name: one.flag for one in described(EngineOptions)}[name] or ""


def test_constraints_state_what_the_options_do():
    made = constraints_of({
        "context": 64, "threads": 2, "concurrency": 3, "quality": "high", "kv_format": "f16",
        "max_batch_tokens": 32, "formats": {"b": "Q8_0", "a": "Q4_K"}, "use_audits": True,
    })  # fmt: skip
    assert made == Constraints(
        context=64, threads=2, concurrency=3, max_kld=0.01, kv_format="f16", max_batch_tokens=32,
        formats=(("a", "Q4_K"), ("b", "Q8_0")), use_audits=True, max_logit_rows=3,
    )  # fmt: skip
    assert constraints_of({}) == Constraints()
    served = serving_of({"prefix_cache": "1MiB"})
    assert served.disk is not None
    assert served.disk.max_bytes == 1 << 20
    assert constraints_of({}, served) == Constraints(with_store=True)
    with pytest.raises(UnitError):
        serving_of({"prefix_cache": "much"})


@pytest.mark.parametrize(
    ("former", "said", "name"),
    [
        ("--step-rows", "16", "max_batch_tokens"),
        ("--page-cache", "1GiB", "prefix_cache"),
        ("--forms", None, "structured_output"),
    ],
)
def test_former_flags_are_taken_and_not_shown(capsys, former, said, name):
    words = [former] if said is None else [former, said]
    assert str(getattr(parse(["serve", "m", *words]), name)) == (said or "on")
    assert not getattr(parse(["serve", "m"]), name)
    with pytest.raises(SystemExit):
        parse(["serve", "--help"])
    assert former not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["run", "serve", "plan", "batch", "embed", "bench", "audit"])
def test_help_fits_a_terminal_and_states_defaults(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        parse([command, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "threads (as many as make it faster)" in text
    options = [line for line in text.splitlines() if line.startswith(("usage:", "  -", " " * 20))]
    assert len(options) > 10
    assert max(map(len, options)) <= 80


def test_keywords_of_a_completion_are_the_sampling_options():
    assert get_type_hints(SamplingOverrides) == get_type_hints(SamplingOptions)


def test_every_command_of_the_command_line_has_a_function():
    assert set(COMMANDS) == set(cli._COMMANDS)
    for module, function in cli._COMMANDS.values():
        assert callable(getattr(import_module(f"tonnage.cli.commands.{module}"), function))


def test_every_option_has_help_and_words_for_what_is_left_out():
    for group in (*GROUPS, ModelOptions):
        for one in described(group):
            assert one.option.help, one.name
            if one.kind in (int, float, str) and one.flag is not None:
                assert one.option.unit or one.choices, one.name


@pytest.mark.parametrize(
    "name",
    ["open", "generate", "stream", "generate_batch", "embed", "embed_stream", "encode_prompt",
     "encode_chat", "encode_inputs", "look", "ledger", "set_budget", "close"],
)  # fmt: skip
def test_the_methods_of_an_engine_are_methods(name):
    method = inspect.getattr_static(Engine, name)
    function = method.__func__ if isinstance(method, classmethod) else method
    assert inspect.isfunction(function)
    assert inspect.getdoc(function)
    hints = inspect.signature(function)
    assert all(
        one.annotation is not inspect.Parameter.empty
        for one in hints.parameters.values()
        if one.name not in ("self", "cls")
    )


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ({"max_tokens": 5.5}, "max_tokens is 5.5, of type float; give a whole number"),
        ({"max_tokens": "5"}, "max_tokens is '5', of type str; give a whole number"),
        ({"max_tokens": True}, "max_tokens is True, of type bool"),
        ({"temperature": "1"}, "temperature is '1', of type str; give a number"),
        ({"stop": ("a", 5)}, "stop is 5, of type int; give a text"),
        ({"stop": {"a": 1}}, "stop is .*, of type dict; give a text"),
        ({"ignore_eos": 1}, "ignore_eos is 1, of type int; give True or False"),
    ],
)
def test_values_of_another_type_are_named(stated, words):
    with pytest.raises(RequestError, match=words):
        SamplingOptions(**stated)


def test_a_whole_number_is_a_number_and_one_stop_string_needs_no_tuple():
    options = SamplingOptions(temperature=1, stop="abc", max_tokens=np.int64(3))
    assert (options.temperature, options.stop, options.max_tokens) == (1, ("abc",), 3)


@pytest.mark.parametrize("stated", [{"context": "2048"}, {"threads": 2.0}, {"offline": "no"}])
def test_types_of_engine_options_are_checked(stated):
    (name,) = stated
    with pytest.raises(RequestError, match=f"{name} is "):
        current(EngineOptions, stated)
