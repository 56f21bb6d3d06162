"""Tiny checkpoints of every family give the stored logits, bit for bit, however they are run.

Where a change is meant to alter results: support/logit_hashes.py says how to store new hashes.
"""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest

from support.checkpoints import FAMILIES
from support.logit_hashes import (
    CASES,
    STORED,
    digests,
    isas_here,
    read_spec,
    the_one,
    weights_digest,
    write_case,
)
from tonnage.core.block_format import ALL_FORMATS
from tonnage.core.plan import KV_FORMATS

STORED_HASHES = json.loads(STORED.read_text())


@pytest.mark.parametrize("case", CASES)
def test_logits_are_the_stored_ones(case: str, tmp_path: Path) -> None:
    path = write_case(tmp_path / "model.gguf", CASES[case])
    stored = STORED_HASHES[case]
    versions = f"numpy {np.__version__}, gguf {getattr(gguf, '__version__', '?')}"
    assert weights_digest(path) == stored["weights"], f"{versions} wrote another checkpoint"
    spec = read_spec(path)
    for kv_format in KV_FORMATS:
        found = digests(spec, CASES[case], kv_format)
        assert len(found) == 2 * len(isas_here())
        assert the_one(found) == stored[kv_format], f"logits with {kv_format} pages changed"


def test_every_family_has_a_hash() -> None:
    assert STORED_HASHES.keys() == CASES.keys()
    assert {case.family for case in CASES.values()} == set(FAMILIES)


def test_every_block_format_is_in_a_checkpoint(tmp_path: Path) -> None:
    found = set()
    for case in ("qwen3, every format", "qwen3, few bits"):
        spec = read_spec(write_case(tmp_path / "model.gguf", CASES[case]))
        found |= {entry.format.name for entry in spec.weights.values()}
    # Those are unknown to the gguf package, which makes the checkpoints.
    assert found == {fmt.name for fmt in ALL_FORMATS} - {"F64", "Q1_0", "Q2_0"}


def test_no_two_hashes_of_logits_are_equal() -> None:
    hashes = [stored[kv] for stored in STORED_HASHES.values() for kv in KV_FORMATS]
    assert len(set(hashes)) == len(hashes)


def test_runs_that_differ_are_told_apart() -> None:
    with pytest.raises(AssertionError, match="runs differ"):
        the_one({"scalar, 1": "a", "scalar, 2": "b"})
