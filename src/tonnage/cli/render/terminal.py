"""What is shown on a terminal: the state of a load, and text without control characters."""

import time
from typing import TextIO

from tonnage.core.units import format_bytes

_CLEAR_LINE = "\r\x1b[K"
_BETWEEN_S = 0.1
# A model may say anything; what moves the cursor or retitles the window is not printed.
_NOT_PRINTED = {code: None for code in (*range(9), *range(11, 32), *range(127, 160))}


def printable(text: str, stream: TextIO) -> str:
    """Return `text` as it may be written to `stream`: unchanged unless that is a terminal."""
    return text.translate(_NOT_PRINTED) if stream.isatty() else text


class StatusLine:
    """One line on a terminal that is overwritten and removed; elsewhere it stays silent."""

    def __init__(self, stream: TextIO, quiet_s: float = 0.3) -> None:
        """Write to `stream`, after `quiet_s` seconds at first: what is quick shows nothing."""
        self._stream = stream
        self._enabled = stream.isatty()
        self._next = time.monotonic() + quiet_s
        self._shown = False

    def show(self, text: str) -> None:
        """Replace the line, unless the last one is too fresh to be read."""
        now = time.monotonic()
        if self._enabled and now >= self._next:
            self._next = now + _BETWEEN_S
            self._shown = True
            self._stream.write(_CLEAR_LINE + text)
            self._stream.flush()

    def close(self) -> None:
        """Remove the line."""
        if self._shown:
            self._shown = False
            self._stream.write(_CLEAR_LINE)
            self._stream.flush()


class PullProgress:
    """The progress of a pull: one status line on a terminal, elsewhere a line per stage."""

    def __init__(self, stream: TextIO) -> None:
        """Show on `stream`."""
        self._stream = stream
        self._status = StatusLine(stream, quiet_s=0.0)
        self._title = self._stage = ""
        self._total_bytes = 0

    def start(self, title: str, total_bytes: int, done_bytes: int) -> None:
        """Show the size, and what is already here."""
        self._title, self._total_bytes = title, total_bytes
        here = f", {format_bytes(done_bytes)} of it already here" if done_bytes else ""
        self.stage(f"{format_bytes(total_bytes)}{here}")

    def stage(self, text: str) -> None:
        """Name what happens now."""
        self._stage = text
        if self._stream.isatty():
            self._status.show(f"{self._title}: {text}")
        else:
            print(f"{self._title}: {text}", file=self._stream, flush=True)

    def at(self, position_bytes: int) -> None:
        """Show how far it is, on a terminal."""
        done = f"{format_bytes(position_bytes)} of {format_bytes(self._total_bytes)}"
        self._status.show(f"{self._title}: {self._stage}, {done}")

    def close(self) -> None:
        """Remove the status line."""
        self._status.close()


class CountProgress:
    """How many of `total` things are done, on a status line."""

    def __init__(self, stream: TextIO, title: str, total: int, done: int) -> None:
        """Show on `stream`, if that is a terminal."""
        self._status = StatusLine(stream)
        self._title, self._total, self._done = title, total, done

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        self._status.show(f"{self._title}: {self._done:,} of {self._total:,}")

    def close(self) -> None:
        """Remove the line. May be called twice."""
        self._status.close()
