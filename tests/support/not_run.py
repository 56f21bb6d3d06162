"""One line that says what was not run, and why."""

from collections import Counter
from collections.abc import Iterable

import pytest

Report = pytest.TestReport | pytest.CollectReport


def not_run(skipped: Iterable[Report], num_deselected: int) -> str:
    """Return `not run: 3 tests, reason; 1 file, reason`, the most first; "" if all were run.

    A reason counts up to its first colon: behind it stands what differs from test to test.
    """
    tests: Counter[str] = Counter()
    files: Counter[str] = Counter()
    for report in skipped:
        counted = files if isinstance(report, pytest.CollectReport) else tests
        counted[_reason(report)] += 1
    found = [(count, "test", reason) for reason, count in tests.items()]
    found += [(count, "file", reason) for reason, count in files.items()]
    if num_deselected:
        found.append((num_deselected, "test", "deselected"))
    found.sort(key=lambda one: (-one[0], one))
    parts = [f"{count} {kind}{'s' * (count > 1)}, {reason}" for count, kind, reason in found]
    return f"not run: {'; '.join(parts)}" if parts else ""


def _reason(report: Report) -> str:
    """Return why a report says its test was skipped (its longrepr is file, line and reason)."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ").splitlines()[0].split(":")[0].strip()
