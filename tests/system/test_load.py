"""Twice as many clients as fit, for TONNAGE_LOAD_SECONDS; midway a third of the pages goes.

Nothing may crash, the process stays within its plan, and whoever is refused is told why.
"""

import os
from pathlib import Path

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from support.own_process import run_program

SECONDS = float(os.environ.get("TONNAGE_LOAD_SECONDS", "20"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config("llama", max_position_embeddings=1 << 12)
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_gguf(path, tiny_model(config, seed=1), matrices("Q8_0"))


def test_twice_the_load_and_a_shrinking_budget(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = run_program("random_load", model, SECONDS, timeout_s=SECONDS + 120)
    with capsys.disabled():
        print(
            f"\n  {told['outcomes']}, ladder {told['ladder']}, peak "
            f"{told['peak_rss_bytes'] >> 20} of {told['planned_bytes'] >> 20} MiB", end="",
        )  # fmt: skip
    assert told["num_left"] == told["num_used_pages"] == 0
    assert told["peak_rss_bytes"] <= told["planned_bytes"]
    # What was given up is no longer resident, but for the ends of runs of pages.
    left = told["kv_planned_bytes"] - told["kv_bytes"] // 3 + (64 << 10)
    assert told["kv_now_bytes"] <= left
    assert told["num_same"] == told["num_samples"] > 0
    assert told["outcomes"]["OverloadError"] > 0
    assert told["outcomes"]["given up"] > 0
    assert told["outcomes"]["length"] > SECONDS
