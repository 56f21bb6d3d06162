"""In which order tests run, what runs beside them, which real models they find, what was not run.

First come all tests without a mark of these, with the loads of minutes (support/loads.py) beside
them where any selected test wants those; then the tests that wait for such a load (mark `load`);
last, when nothing else runs, those that measure time (mark `quiet`).
"""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.loads import RunningLoad, why_not
from support.models import VARIABLE, link_pulled_models
from support.not_run import not_run


def pytest_configure(config: pytest.Config) -> None:
    """Let tests find the models that were pulled, unless a folder of others is named."""
    if VARIABLE not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="test-models-"))
        config.add_cleanup(lambda: shutil.rmtree(folder))
        config.add_cleanup(lambda: os.environ.pop(VARIABLE))
        link_pulled_models(folder)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say in one line, the last before pytest's own, what was not run and why."""
    yield
    stats = terminalreporter.stats
    line = not_run(stats.get("skipped", []), len(stats.get("deselected", [])))
    if line:
        terminalreporter.write_line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests in that order, and else leave them as they were."""
    items.sort(key=lambda item: _load_name(item) is not None)
    items.sort(key=lambda item: item.get_closest_marker("quiet") is not None)


def _load_name(item: pytest.Item) -> str | None:
    mark = item.get_closest_marker("load")
    return mark.args[0] if mark else None


@pytest.fixture(scope="session", autouse=True)
def running_loads(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, RunningLoad]]:
    """Start the loads that selected tests want, and end what nobody has waited for."""
    names = {name for item in request.session.items if (name := _load_name(item)) is not None}
    loads = {
        name: RunningLoad.start(name, tmp_path_factory.mktemp(name))
        for name in sorted(names)
        if why_not(name) is None
    }
    yield loads
    for load in loads.values():
        load.stop()


@pytest.fixture
def told(request: pytest.FixtureRequest, running_loads: dict[str, RunningLoad]) -> dict[str, Any]:
    """Wait for the load of the test's mark and return what it told."""
    name = _load_name(request.node)
    assert name is not None
    if name not in running_loads:
        pytest.skip(str(why_not(name)))
    return running_loads[name].result()


@pytest.fixture
def log_lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Log all that a server in this process says; yield what returns its lines since the last call.

    They are those of `tonnage serve --log-level debug --log-format json`.
    """
    from tonnage.server.observe.log import configure

    logger = logging.getLogger("tonnage")
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    configure("debug", "json")
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)
