"""Sizes and counts as people write them."""

import pytest

from tonnage.cli.arguments import parse
from tonnage.core.errors import UnitError
from tonnage.core.units import decimal_note, parse_bytes, parse_count


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("8G", 8 * 2**30), ("8GiB", 8 * 2**30), ("512m", 512 * 2**20), ("1.5g", 3 * 2**29),
        ("8GB", 8 * 10**9), ("700mb", 700 * 10**6), ("64 KiB", 65536), ("1T", 2**40), ("77", 77),
    ],
)  # fmt: skip
def test_sizes(text, num_bytes):
    assert parse_bytes(text) == num_bytes


@pytest.mark.parametrize("text", ["", "8 apples", "1.5", "-1G", "8GBB", "0", "9" * 30 + "G"])
def test_what_is_no_size_is_a_sentence(text):
    with pytest.raises(UnitError, match=r"write it like|KiB, MiB|no unit"):
        parse_bytes(text)


def test_powers_of_ten_are_told():
    note = "8GB is 8,000,000,000 bytes, which is 7.5 GiB; write 8GiB or 8G for powers of 1024."
    assert decimal_note("8GB") == note
    assert [decimal_note(text) for text in ("8G", "8GiB", "8000", "x")] == [None] * 4


def test_the_command_line_tells_it_once(capsys):
    assert parse(["run", "m", "--memory", "8GB"]).memory == "8GB"
    assert capsys.readouterr().err.count("powers of 1024") == 1


@pytest.mark.parametrize(
    ("text", "count"), [("32k", 32768), ("4096", 4096), ("1m", 1 << 20), ("1.5k", 1536), ("0", 0)]
)
def test_counts(text, count):
    assert parse_count(text) == count
    assert parse(["run", "m", "--context", text]).context == count


@pytest.mark.parametrize("text", ["k", "1.5", "32g", "4 apples", "9" * 40])
def test_what_is_no_count_is_a_sentence(text, capsys):
    with pytest.raises(UnitError, match="like 4096 or 32k"):
        parse_count(text)
    with pytest.raises(SystemExit):
        parse(["run", "m", f"--context={text}"])
    assert "write it like 4096 or 32k" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("run m --ctx-size 8k", "context", 8192),
        ("run m -c 8k", "context", 8192),
        ("run m --temp 0", "temperature", 0),
        ("run m -n 7", "max_tokens", 7),
        ("run m --n-predict 7", "max_tokens", 7),
        ("run m -t 2", "threads", 2),
        ("run m --repeat-penalty 1.1", "repetition_penalty", 1.1),
        ("run -m m", "model", "m"),
        ("run -m m hello", "prompt", "hello"),
        ("run m -p hello", "prompt", "hello"),
        ("run -m m -p hello", "prompt", "hello"),
        ("run --model m -n 3 hello", "prompt", "hello"),
        ("chat -m m", "model", "m"),
        ("plan -m m", "model", "m"),
        ("serve m --parallel 3", "concurrency", 3),
        ("serve -m a -m b", "models", ["a", "b"]),
    ],
)
def test_names_of_other_programs(line, name, value):
    assert getattr(parse(line.split()), name) == value


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("run m -ngl 99", "has no option -ngl: Tonnage computes on the CPU; leave it out."),
        ("run m --gpu-memory-utilization=0.9", "--memory 8GiB"),
        ("run m -i", "`tonnage chat MODEL` talks"),
        ("run m --contxt 5", "did you mean --context"),
        ("run m --max-tokns 5", "did you mean --max-tokens"),
        ("run m --wxyz", "has no option --wxyz; see its --help."),
        ("lst", "did you mean list"),
    ],
)
def test_what_is_not_known_is_answered(line, words, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(line.split())
    assert caught.value.code == 2
    assert words in capsys.readouterr().err
