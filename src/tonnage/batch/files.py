"""Two files: requests that are read once, results that survive a kill."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tonnage.batch.lines import MAX_LINE_BYTES
from tonnage.core.errors import BatchError


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of `path` that are not blank; of an overlong one MAX_LINE_BYTES + 1 bytes.

    Raises OSError.
    """
    with path.open("rb") as stream:
        while line := stream.readline(MAX_LINE_BYTES + 1):
            whole = line.endswith(b"\n")
            if line.strip():
                yield line
            while not whole and (rest := stream.readline(MAX_LINE_BYTES)):
                whole = rest.endswith(b"\n")


class ResultFile:
    """Results in the order of the requests, one JSON object per line, appended one by one.

    A line is there whole or it is the last one and torn; `keep` finds out and cuts that off. Held
    by one process at a time.
    """

    def __init__(self, path: Path) -> None:
        """Open or make `path`.

        Raises BatchError for what is no plain file or is written by another process, OSError.
        """
        self._path = path
        self.num_refused = 0  # of the results that were kept: errors in place of an answer
        if path.exists() and not path.is_file():
            raise BatchError(
                f"{path} is no plain file; results are appended, and gone on with after a kill, so "
                "give one."
            )
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise BatchError(f"Another process is writing {path}; wait for it to end.") from None

    def keep(self, names: Iterable[str]) -> int:
        """Return how many results are there already; what was torn off behind them is cut.

        names: ids of all results in order. Raises BatchError when the file holds anything else.
        """
        expected, num_kept, end_bytes = iter(names), 0, 0
        with open(self._fd, "rb", closefd=False) as stream:
            stream.seek(0)
            size = os.fstat(self._fd).st_size
            for line in stream:
                name, is_refused = _head_of(line)
                if name is None and end_bytes + len(line) == size:
                    break
                if name is None or name != next(expected, None):
                    raise BatchError(
                        f"Line {num_kept + 1} of {self._path} is no result of this batch with this "
                        "model and these options; give another OUTPUT, or delete the file."
                    )
                num_kept += 1
                self.num_refused += is_refused
                end_bytes += len(line)
        os.ftruncate(self._fd, end_bytes)
        os.lseek(self._fd, end_bytes, os.SEEK_SET)
        return num_kept

    def append(self, result: dict[str, Any]) -> None:
        """Write one result. Raises OSError."""
        data = memoryview(json.dumps(result).encode() + b"\n")
        while data:
            data = data[os.write(self._fd, data) :]

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Sync what was written, and close. Raises OSError."""
        try:
            os.fsync(self._fd)
        finally:
            os.close(self._fd)


def _head_of(line: bytes) -> tuple[str | None, bool]:
    """Return the id of a result and whether it is an error; None when it is torn or no result."""
    if not line.endswith(b"\n"):
        return None, False
    try:
        result = json.loads(line)
        name, is_refused = result["id"], result.get("error") is not None
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return None, False
    return (name, is_refused) if isinstance(name, str) else (None, False)
