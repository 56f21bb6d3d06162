"""Teams of threads for every instruction set; tests say which ones they could not run."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest

from tonnage._native import Executor, has_isa
from tonnage.machine.isa import ISAS

Team = Callable[[int], Executor]


@lru_cache(maxsize=12)
def find_team(isa: str, threads: int) -> Executor:
    """Return the team of an instruction set, or skip the test when it cannot run here."""
    if not has_isa(isa):
        pytest.skip(f"{isa} kernels were not run: not built, or not for this CPU")
    return Executor(isa, threads)


@pytest.fixture(params=ISAS)
def team(request: pytest.FixtureRequest) -> Team:
    """Threads -> the team of one instruction set."""
    isa = str(request.param)
    find_team(isa, 1)
    return lambda threads: find_team(isa, threads)


@pytest.fixture
def team_of() -> Callable[[str, int], Executor]:
    """(instruction set, threads) -> a team."""
    return find_team


@pytest.fixture
def isas() -> list[str]:
    """All instruction sets that can run here."""
    return [isa for isa in ISAS if has_isa(isa)]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Numbers that depend on the test's name alone."""
    return np.random.default_rng(list(request.node.name.encode()))
