"""Waiting for what another thread or process is about to do."""

import time
from collections.abc import Callable


def wait_until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return as soon as `holds` is true; fails where it is not in time."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not so within {seconds:g} s"
        time.sleep(0.005)
