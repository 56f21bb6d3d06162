"""What is shown on a terminal: the state of a load, and an answer without control characters."""

import time
from typing import TextIO

from tonnage.store.progress import Progress, SilentProgress

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


class LateProgress(SilentProgress):
    """The progress of a pull, made when a pull begins: most models are here already."""

    def __init__(self, stream: TextIO) -> None:
        """Show on `stream`."""
        self._stream = stream
        self._real: Progress | None = None

    def start(self, title: str, total_bytes: int, done_bytes: int) -> None:
        """Begin."""
        if self._real is None:
            from tonnage.store.progress import open_progress

            self._real = open_progress(self._stream)
        self._real.start(title, total_bytes, done_bytes)

    def stage(self, text: str) -> None:
        """Name what happens now."""
        if self._real is not None:
            self._real.stage(text)

    def at(self, position_bytes: int) -> None:
        """Move."""
        if self._real is not None:
            self._real.at(position_bytes)

    def close(self) -> None:
        """End."""
        if self._real is not None:
            self._real.close()
