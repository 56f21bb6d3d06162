"""The official JSON Schema test suite: what structured output accepts of it, it obeys.

The suite lies in the source of the package jsonschema, which is downloaded once and kept in the
cache of pytest; TONNAGE_SCHEMA_SUITE names such a file instead. The package itself judges.
"""

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
DRAFTS = ("draft4", "draft6", "draft7", "draft2019-09", "draft2020-12")
NAME = "jsonschema-4.26.0.tar.gz"
SHA256 = "0c26707e2efad8aa1bfc5b7ce170f3fccc2e4918ff85989ba9ffa9facb2be326"
PIP = [
    sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "jsonschema",
    "jsonschema==4.26.0", "--dest",
]  # fmt: skip


@pytest.fixture(scope="module")
def archive(request: pytest.FixtureRequest) -> Path:
    named = os.environ.get("TONNAGE_SCHEMA_SUITE", "")
    if named:
        return Path(named)
    folder = Path(request.config.cache.mkdir("schema-suite"))
    if not (folder / NAME).exists():
        done = subprocess.run([*PIP, str(folder)], capture_output=True, timeout=300)
        if done.returncode != 0:
            pytest.skip("the source of jsonschema could not be downloaded")
    assert hashlib.sha256((folder / NAME).read_bytes()).hexdigest() == SHA256
    return folder / NAME


@pytest.mark.parametrize("draft", DRAFTS)
def test_what_is_accepted_of_the_official_suite_is_obeyed(
    archive: Path, draft: str, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("jsonschema")
    spec = importlib.util.spec_from_file_location("schema_suite", BENCH / "schema_suite.py")
    suite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(suite)
    result = suite.run(archive, draft)
    num_refused = sum(result.refused.values())
    with capsys.disabled():
        reasons = ", ".join(f"{count} {reason}" for reason, count in result.refused.most_common())
        print(f"\n  {draft}: {result.accepted} accepted; {num_refused} refused: {reasons}", end="")
    assert result.wrong == []
    assert result.misjudged == []
    assert result.accepted > 3 * num_refused
    # Every refusal names a keyword, in our words, but for the schema that nothing satisfies.
    assert all(" " not in reason or "nothing satisfies" in reason for reason in result.refused)
