"""What a reader says of bytes that it does not take."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tonnage.core.errors import FileFormatError, TonnageError


def assert_refused(
    read: Callable[[Path], object],
    path: Path,
    data: bytes,
    message: str,
    error: type[TonnageError] = FileFormatError,
) -> None:
    """Write `data` to `path`, and check that reading it ends in a short sentence with `message`."""
    path.write_bytes(data)
    with pytest.raises(error, match=message) as caught:
        read(path)
    text = str(caught.value)
    assert text.endswith(".")
    assert len(text) < 600
    assert text.isprintable()
