"""Text that arrives in pieces, on lines that end between words."""

import os
from typing import TextIO

from tonnage.cli.render.terminal import printable

_LONGEST_WORD = 30  # longer ones are cut where the terminal cuts them
_USUAL_COLUMNS = 80


class WrappedOutput:
    """Writes a text to a terminal so that no word is cut at its edge; elsewhere as it comes.

    A word is held until its end is known. Blocks between lines of three backticks keep their lines.
    """

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream
        self._wraps = stream.isatty()
        self._column = 0
        self._space = ""  # before the word; left out where a line ends there
        self._word = ""
        self._is_cut = False  # the beginning of a long word is written already
        self._line = ""  # its beginning, as far as it tells of a block of code
        self._in_code = False

    def write(self, text: str) -> None:
        """Write a piece, but for the word at its end."""
        if self._wraps:
            for char in printable(text, self._stream):
                self._take(char)
        else:
            self._stream.write(text)
        self._stream.flush()

    def end(self) -> None:
        """Write what was held back."""
        self._put_word()
        self._stream.write(self._space)
        self._space = ""
        self._stream.flush()

    def _take(self, char: str) -> None:
        if len(self._line) < 3 and char not in "\r\n":
            self._line = (self._line + char).lstrip(" ")
            if self._line == "```":
                self._in_code = not self._in_code
        if char == "\n":
            self._put_word()
            self._column, self._line, self._space, self._is_cut = 0, "", "", False
            self._stream.write(char)
        elif self._in_code:
            self._put_word()
            self._stream.write(char)
            self._column += 1
        elif char.isspace():
            self._put_word()
            self._space, self._is_cut = self._space + char, False
        else:
            self._word += char
            if _is_wide(char):
                self._put_word()
            elif len(self._word) >= _LONGEST_WORD:
                self._put_word()
                self._is_cut = True

    def _put_word(self) -> None:
        if not self._word:
            return
        width = sum(2 if _is_wide(char) else 1 for char in self._word)
        columns, end = _columns(self._stream), self._column + len(self._space) + width
        if self._column and end > columns and not self._is_cut:
            text, self._column = "\n" + self._word, width
        else:
            text, self._column = self._space + self._word, end % columns if end > columns else end
        self._word, self._space, self._is_cut = "", "", False
        # Last: Ctrl-C may come meanwhile, and what is written must be known to be.
        self._stream.write(text)


def _columns(stream: TextIO) -> int:
    """Return the width of a terminal: $COLUMNS, else what it says itself."""
    stated = os.environ.get("COLUMNS", "")
    if stated.isdecimal() and int(stated):
        return int(stated)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_COLUMNS
    except (OSError, ValueError):
        return _USUAL_COLUMNS


def _is_wide(char: str) -> bool:
    """Return whether a character takes two columns, as most of East Asia's do."""
    if char < "\u1100":
        return False
    from unicodedata import east_asian_width

    return east_asian_width(char) in "WF"
