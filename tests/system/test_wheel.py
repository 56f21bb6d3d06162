"""From a wheel to the first answer, in a fresh environment without a compiler.

`make wheels` puts the wheel into build/dist; `.ci/run` makes it before the tests.
"""

import sys
from pathlib import Path

import pytest

from support.models import real_model
from tools.try_wheel import try_wheel

FOLDER = Path(__file__).parents[2] / "build" / "dist"
LIMIT_S = 20.0
# What people have: the index answers, and pip's cache holds the packages.
pytestmark = [pytest.mark.slow, pytest.mark.quiet]


@pytest.mark.skipif(not list(FOLDER.glob("*.whl")), reason="no wheel: make wheels")
def test_installed_and_answered_within_20_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    trial = try_wheel(FOLDER, sys.executable, str(real_model()))
    with capsys.disabled():
        print(f"\n  from the wheel: {trial.install_s:.1f} s + {trial.answer_s:.1f} s")
    assert trial.text
    assert trial.install_s + trial.answer_s < LIMIT_S
