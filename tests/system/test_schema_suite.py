"""The official JSON Schema test suite: what structured output accepts of it, it obeys.

TONNAGE_SCHEMA_SUITE names the source of the package jsonschema, which holds the suite:
`pip download --no-deps --no-binary jsonschema jsonschema`. The package itself judges.
"""

import importlib.util
import os
from pathlib import Path

import pytest

ARCHIVE = os.environ.get("TONNAGE_SCHEMA_SUITE", "")
BENCH = Path(__file__).parents[2] / "bench"
DRAFTS = ("draft4", "draft6", "draft7", "draft2019-09", "draft2020-12")


@pytest.mark.slow
@pytest.mark.skipif(not ARCHIVE, reason="TONNAGE_SCHEMA_SUITE names no source of jsonschema")
@pytest.mark.parametrize("draft", DRAFTS)
def test_what_is_accepted_of_the_official_suite_is_obeyed(draft):
    pytest.importorskip("jsonschema")
    spec = importlib.util.spec_from_file_location("schema_suite", BENCH / "schema_suite.py")
    suite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(suite)
    result = suite.run(Path(ARCHIVE), draft)
    assert result.wrong == []
    assert result.accepted > sum(result.refused.values())
