"""A plan as a file: what it keeps, where checkpoints may lie, and how a difference is said."""

import json
from dataclasses import replace

import pytest

from golden.regenerate import MACHINE, tiny_spec
from support.speeds import PlainSpeed
from tonnage.backends.cpu.layout.cpu_layout import CpuLayout
from tonnage.backends.cpu.layout.plan import make_plan
from tonnage.core.errors import PlanFileError
from tonnage.core.plan import Plan
from tonnage.core.quality import PlanQuality
from tonnage.core.workload import Workload
from tonnage.planner.plan_file import (
    FORMAT,
    MAX_FILE_BYTES,
    PlanFile,
    checked_choice,
    differences,
    first_difference,
    parse_plan_file,
    planned_machine,
    planned_speed,
    portable,
)

WORKLOAD = Workload(64, 1)
PLAN = make_plan(tiny_spec("llama"), WORKLOAD)
SPEED = PlainSpeed(10.0, 200.0, 3_000_000, "memory")


def written(**changes: object) -> PlanFile:
    file = PlanFile(
        FORMAT, "1.2.3", "m", "identity", planned_machine(MACHINE), 1 << 30, WORKLOAD,
        PlanQuality(0.0, "exact"), planned_speed(SPEED), portable(PLAN),
    )  # fmt: skip
    return replace(file, **changes)  # type: ignore[arg-type]


def moved(*names: str) -> Plan:
    """Return the plan with its matrices in the files `names`, one after the other."""
    matrices = tuple(
        replace(one, source=replace(one.source, file=names[index % len(names)]))
        for index, one in enumerate(PLAN.matrices)
    )
    vectors = tuple(replace(one, source=replace(one.source, file=names[0])) for one in PLAN.vectors)
    return replace(PLAN, matrices=matrices, vectors=vectors)


def test_a_file_comes_back_as_it_was_written() -> None:
    file = written()
    text = file.to_json()
    assert parse_plan_file(text.encode(), "p") == file
    assert text.endswith("}\n")
    assert "\n " in text, "it can be read, and compared line by line"
    assert json.loads(text)["forecast"] == {
        "decode_tokens_per_s": 10.0, "prefill_tokens_per_s": 200.0,
        "time_to_first_token_ns": 3_000_000, "bottleneck": "memory",
    }  # fmt: skip
    assert parse_plan_file(written(forecast=planned_speed(None)).to_json().encode(), "p") == (
        written(forecast=None)
    )


def test_a_checkpoint_of_one_file_may_lie_anywhere_under_any_name() -> None:
    assert portable(moved("/a/b/model.gguf")) == portable(moved("c/other.gguf"))


def test_shards_are_told_apart_by_their_names() -> None:
    first = portable(moved("/a/one.safetensors", "/a/two.safetensors"))
    assert first == portable(moved("/b/c/one.safetensors", "/b/c/two.safetensors"))
    assert first != portable(moved("/a/two.safetensors", "/a/one.safetensors"))
    assert first.matrices[0].source.file == first.vectors[0].source.file == "one.safetensors"
    assert first.matrices[1].source.file == "two.safetensors"
    three = portable(moved("/a/1", "/a/2", "/a/3"))
    assert {one.source.file for one in three.matrices} == {"1", "2", "3"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        (
            {"program": "9.8"},
            [
                "The plan was written by version 9.8; this is 1.2.3, which lays the model out "
                "alike. Its kernels may round differently."
            ],
        ),
        (
            {
                "machine": replace(
                    planned_machine(MACHINE), cpu_model="other", isa="avx512", num_cores=8,
                    memory_total_bytes=2 << 30,
                )
            },
            [
                "The plan was made for other (8 cores, avx512, 2.0 GiB); this is golden (4 cores, "
                "avx2, 32.0 GiB). Completions are the same, its forecast does not hold."
            ],
        ),
    ],
    ids=["none", "version", "machine"],
)  # fmt: skip
def test_what_may_differ_is_said_and_runs(changes: dict[str, object], words: list[str]) -> None:
    assert list(differences(written(**changes), MACHINE, "1.2.3")) == words


def test_words_of_a_file_are_cut() -> None:
    long = written(program="p" * 99, machine=replace(planned_machine(MACHINE), cpu_model="c" * 99))
    version, machine = differences(long, MACHINE, "1.2.3")
    assert f"version {'p' * 40};" in version
    assert f"for {'c' * 60} (" in machine


def test_the_first_value_that_differs_is_named_with_both() -> None:
    first, *more = PLAN.matrices
    cases = {
        f"plan.threads is 3 instead of {PLAN.threads}": replace(PLAN, threads=3),
        f"plan.matrices[0].rows is 7 instead of {first.rows}": replace(
            PLAN, matrices=(replace(first, rows=7), *more)
        ),
        f"plan.matrices[0].source.file is 'x' instead of {first.source.file!r}": replace(
            PLAN, matrices=(replace(first, source=replace(first.source, file="x")), *more)
        ),
        f"plan.matrices is a list of {len(more)} instead of a list of {len(more) + 1}": replace(
            PLAN, matrices=tuple(more)
        ),
    }
    for words, other in cases.items():
        assert first_difference(PLAN, other) == words
    assert first_difference(PLAN, replace(PLAN)) is None
    text = repr("y" * 90)
    assert first_difference("a", "y" * 90, "w") == f"w is {text[:57]}... instead of 'a'"
    assert first_difference("a", "y" * 58, "w") == f"w is '{'y' * 58}' instead of 'a'"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (FORMAT + 1, rf"p has format {FORMAT + 1}, written by a later version; this one reads"),
        (FORMAT - 1, rf"p has format {FORMAT - 1}, written by an earlier version"),
        (0, "it states no format"),
        (-1, "it states no format"),
        (float(FORMAT), "it states no format"),
        (True, "it states no format"),
        (None, "it states no format"),
    ],
)
def test_another_format_is_refused(number: object, words: str) -> None:
    raw = {**json.loads(written().to_json()), "format": number}
    with pytest.raises(PlanFileError, match=words):
        parse_plan_file(json.dumps(raw).encode(), "p")


def test_the_size_of_a_file_is_bounded() -> None:
    text = written().to_json().encode()
    assert parse_plan_file(text.ljust(MAX_FILE_BYTES), "p") == written()
    with pytest.raises(PlanFileError, match=r"p is larger than 4\.0 MiB: no plan file\."):
        parse_plan_file(text.ljust(MAX_FILE_BYTES + 1), "p")


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_refused(word: str) -> None:
    text = written().to_json().replace("3000000", word)
    with pytest.raises(PlanFileError, match=f"{word} is no number"):
        parse_plan_file(text.encode(), "p")


def test_a_choice_is_what_its_workload_and_the_checkpoint_give() -> None:
    spec = tiny_spec("llama")
    stated = Workload(
        64, 1, concurrency=2, max_rows=32, max_logit_rows=2, kv_format="int8", shared_pages=1,
        server_bytes=5, resident_bytes=7, with_structured_output=True, with_store=True,
    )  # fmt: skip
    file = written(workload=stated, plan=portable(make_plan(spec, stated)))
    choice = checked_choice(file, spec, MACHINE, CpuLayout())
    assert choice.workload == stated
    assert choice.plan == make_plan(spec, stated)
    assert choice.accepted
    assert choice.forecast is None
    assert (choice.usual_context_tokens, choice.usual_kv_format) == (64, "int8")
    assert choice.quality.basis == "estimate"
    with pytest.raises(PlanFileError, match=r"does not follow from its choice: plan\.concurrency"):
        checked_choice(
            replace(file, workload=replace(stated, concurrency=3)), spec, MACHINE, CpuLayout()
        )


@pytest.mark.parametrize(
    "stated",
    [
        WORKLOAD,
        Workload(64, 1, max_rows=16, shared_pages=0),
        Workload(64, 3, concurrency=2, shared_pages=128),
        Workload(64, 1, formats=(("embed", "Q8_0"), ("head", "Q4_1"))),
    ],
)
def test_all_of_a_workload_is_stated_by_its_constraints(stated: Workload) -> None:
    spec = tiny_spec("llama")
    file = written(workload=stated, plan=portable(make_plan(spec, stated)))
    choice = checked_choice(file, spec, MACHINE, CpuLayout())
    assert choice.workload == stated
    found = choice.constraints
    assert (found.context, found.threads, found.concurrency) == (
        64, stated.threads, stated.concurrency,
    )  # fmt: skip
    assert (found.max_batch_tokens, found.formats) == (stated.max_rows, stated.formats)
    assert found.share_pages == (stated.shared_pages is not None)
    assert (found.max_logit_rows, found.kv_format) == (1, "f16")


@pytest.mark.parametrize(
    "changes",
    [
        {"shared_pages": -1}, {"shared_pages": 129}, {"max_logit_rows": 0},
        {"resident_bytes": -1}, {"beside_bytes": -1}, {"server_bytes": -1},
        {"resident_bytes": (1 << 50) + 1}, {"server_bytes": 1 << 60},
    ],
    ids=str,
)  # fmt: skip
def test_a_workload_that_no_planner_makes_is_refused(changes: dict[str, int]) -> None:
    stated = replace(Workload(64, 1, concurrency=2, max_rows=16, shared_pages=1), **changes)
    with pytest.raises(PlanFileError, match=r"No workload has .*; plan it again"):
        checked_choice(written(workload=stated), tiny_spec("llama"), MACHINE, CpuLayout())
