"""What long work shows: a bar on a terminal; elsewhere one line per stage, or nothing."""

from importlib import import_module
from typing import Any, Protocol, TextIO

from tonnage.core.units import format_bytes


class Progress(Protocol):
    """The face a pull talks to. Positions are bytes of the finished file."""

    def start(self, title: str, total_bytes: int, done_bytes: int) -> None:
        """Begin with `done_bytes` of `total_bytes` already here."""

    def stage(self, text: str) -> None:
        """Name what happens now."""

    def at(self, position_bytes: int) -> None:
        """Move to `position_bytes`, which may lie before the last one."""

    def close(self) -> None:
        """End, finished or not. May be called twice."""


class SilentProgress:
    """Shows nothing."""

    def start(self, title: str, total_bytes: int, done_bytes: int) -> None:
        """Ignore the beginning."""

    def stage(self, text: str) -> None:
        """Ignore the stage."""

    def at(self, position_bytes: int) -> None:
        """Ignore the position."""

    def close(self) -> None:
        """Do nothing."""


class LineProgress(SilentProgress):
    """Writes one line per stage, for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`, which stays open."""
        self._stream = stream
        self._title = ""

    def start(self, title: str, total_bytes: int, done_bytes: int) -> None:
        """Write the size, and what is already here."""
        self._title = title
        here = f", {format_bytes(done_bytes)} of it already here" if done_bytes else ""
        self.stage(f"{format_bytes(total_bytes)}{here}")

    def stage(self, text: str) -> None:
        """Write a line."""
        print(f"{self._title}: {text}", file=self._stream, flush=True)


class BarProgress(SilentProgress):
    """Draws a bar with tqdm."""

    def __init__(self, stream: TextIO) -> None:
        """Draw on `stream`. Raises ImportError without tqdm."""
        tqdm: Any = import_module("tqdm").tqdm
        # Its monitor thread is for loops that block; a pull reports often enough.
        tqdm.monitor_interval = 0
        self._new_bar = tqdm
        self._stream = stream
        self._title = ""
        self._bar: Any = None

    def start(self, title: str, total_bytes: int, done_bytes: int) -> None:
        """Draw the bar."""
        self.close()
        self._title = title
        self._bar = self._new_bar(
            total=total_bytes,
            initial=done_bytes,
            desc=title,
            file=self._stream,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            dynamic_ncols=True,
        )

    def stage(self, text: str) -> None:
        """Put `text` before the bar."""
        if self._bar is not None:
            self._bar.set_description_str(f"{self._title}: {text}")

    def at(self, position_bytes: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(position_bytes - self._bar.n)

    def close(self) -> None:
        """Leave the bar as it stands and end its line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class CountProgress:
    """Counts things that are done, and shows nothing."""

    def step(self) -> None:
        """One more is done."""

    def close(self) -> None:
        """End, finished or not. May be called twice."""


class CountBar(CountProgress):
    """The same as a bar of tqdm."""

    def __init__(self, stream: TextIO, title: str, total: int, done: int) -> None:
        """Draw on `stream`. Raises ImportError without tqdm."""
        tqdm: Any = import_module("tqdm").tqdm
        tqdm.monitor_interval = 0
        self._bar: Any = tqdm(
            total=total, initial=done, desc=title, file=stream, unit="", dynamic_ncols=True
        )

    def step(self) -> None:
        """Move the bar by one."""
        self._bar.update(1)

    def close(self) -> None:
        """Leave the bar as it stands and end its line."""
        self._bar.close()


def open_count(stream: TextIO, title: str, total: int, done: int) -> CountProgress:
    """Return a bar with `done` of `total` when `stream` is a terminal (and tqdm is there)."""
    if stream.isatty():
        try:
            return CountBar(stream, title, total, done)
        except ImportError:
            pass
    return CountProgress()


def open_progress(stream: TextIO) -> Progress:
    """Return a bar when `stream` is a terminal (and tqdm is there), else lines."""
    if stream.isatty():
        try:
            return BarProgress(stream)
        except ImportError:
            pass
    return LineProgress(stream)
