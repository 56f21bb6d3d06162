"""The reference under docs is what the code says."""

from pathlib import Path

import pytest

from tools import api_reference

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "name", ["api.md", "options.md", "cli.md", "metrics.md", "errors.md", "../models.md"]
)
def test_the_page_is_current(name):
    page = (REPOSITORY / "docs" / "reference" / name).read_text("utf-8")
    assert page == api_reference.pages()[name], "run python tools/api_reference.py"
