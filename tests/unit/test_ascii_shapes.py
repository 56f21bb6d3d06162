"""Output in encodings without blocks: bars are readable, other text never stops a command."""

import subprocess
from pathlib import Path

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from support.command import COMMAND, environment
from tonnage.cli.render.ascii_shapes import ASCII_SHAPES


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_shapes_keep_their_width(encoding: str) -> None:
    told = "██▌░░┃ “so” – …".encode(encoding, ASCII_SHAPES).decode(encoding)
    assert told == '###..| "so" - .'
    assert "日本 ok".encode(encoding, ASCII_SHAPES) == b"?? ok"


def test_bytes_that_are_no_text_are_not_its_business() -> None:
    with pytest.raises(UnicodeDecodeError):
        b"\xff".decode("ascii", ASCII_SHAPES)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_bars_of_a_plan_in_an_ascii_terminal(encoding: str, tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "m.gguf", tiny_model(tiny_config("llama")), matrices("Q8_0"))
    done = subprocess.run(
        [*COMMAND, "plan", str(model), "--explain", "--context", "64"],
        capture_output=True, check=True,
        env=environment(tmp_path, PYTHONIOENCODING=encoding, LC_ALL="C"),
    )  # fmt: skip
    told = done.stdout.decode(encoding)
    assert "?" not in told
    assert ("##" in told) == (encoding == "ascii")
    assert ("█" in told) == (encoding == "utf-8")
