"""`tonnage embed` as a user meets it: the engine's own vectors, of arguments and of lines."""

import json
from array import array
from pathlib import Path

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from support.command import refused, tonnage
from tonnage.engine.engine import Engine

TEXTS = ["The sky is blue.", "Il pleut.", "x"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_gguf(path, tiny_model(tiny_config("gemma2"), seed=1), matrices("Q8_0"))


@pytest.fixture(scope="module")
def expected(model) -> dict[str, list[array]]:
    with Engine.open(str(model), context=256, threads=1) as engine:
        return {
            pooling: [one.vector for one in engine.embed(TEXTS, pooling=pooling)]
            for pooling in ("mean", "last")
        }


def test_vectors_are_those_of_the_engine_to_the_last_bit(model, tmp_path, expected):
    sizes = ("--context", 256, "--threads", 1)
    for pooling in ("mean", "last"):
        done = tonnage(tmp_path, "embed", model, *TEXTS, "--pooling", pooling, "--json", *sizes)
        assert (done.returncode, done.stderr) == (0, "")
        told = [json.loads(line) for line in done.stdout.splitlines()]
        assert [one["index"] for one in told] == [0, 1, 2]
        assert all(one["num_tokens"] >= 1 for one in told)
        assert [array("f", one["embedding"]) for one in told] == expected[pooling]
    # Lines of stdin are the same texts, and numbers alone the same vectors.
    done = tonnage(tmp_path, "embed", model, *sizes, text="\r\n".join(TEXTS) + "\n")
    lines = [array("f", map(float, line.split())) for line in done.stdout.splitlines()]
    assert lines == expected["mean"]
    # Texts stand wherever they like.
    done = tonnage(tmp_path, "embed", model, *sizes, "--dimensions", 4, "x", "y")
    assert [len(line.split()) for line in done.stdout.splitlines()] == [4, 4]


def test_many_lines_come_in_their_order_and_an_empty_one_is_told(model, tmp_path):
    lines = [f"text {number}" for number in range(300)]
    args = ("embed", model, "--context", 256, "--threads", 1, "--json")
    done = tonnage(tmp_path, *args, text="\n".join(lines))
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["index"] for one in told] == list(range(300))
    assert told[7]["embedding"] != told[8]["embedding"]
    done = tonnage(tmp_path, *args, text="\n".join([*lines, "", "x"]))
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 256
    assert "Counted from line 256 on: Input 44 is empty" in done.stderr


def test_what_cannot_be_embedded_is_a_sentence(model, tmp_path):
    for args, words in (
        (("x", "--pooling", "max"), "mean, last"),
        (("x", "--dimensions", 10_000), "dimensions were asked for"),
        ((), "nothing to embed"),
        (("one two " * 400, "--context", 64), "context holds 64"),
    ):
        assert words in refused(tonnage(tmp_path, "embed", model, *args))
