"""Text out of a stream of tokens: whole characters only, and an end at stop strings."""

import codecs
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

from tonnage.core.errors import RequestError

if TYPE_CHECKING:
    from tonnage.text.tokenizer import Tokenizer

MAX_STOPS = 64
MAX_STOP_CHARS = 1024


class StopStrings:
    """Cuts a growing text before the first stop string that is completed in it.

    Of several completed by one character the longest counts, so the result does not depend on how
    the text was cut into pieces. Parts of the text may be hidden: a stop string is found in them,
    too, but they are never shown.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        """Take the stop strings; raises RequestError for empty, too long or too many ones."""
        if len(stops) > MAX_STOPS:
            raise RequestError(f"{len(stops)} stop strings were given; at most {MAX_STOPS} may be.")
        for stop in stops:
            if not 0 < len(stop) <= MAX_STOP_CHARS:
                raise RequestError(
                    f"A stop string has {len(stop)} characters; it needs 1 to {MAX_STOP_CHARS}."
                )
        self._stops = tuple(stops)
        self._longest = max(map(len, stops), default=0)
        self._held = ""
        self._hidden: list[range] = []  # which characters of `_held` are not shown
        self.stopped_at: str | None = None

    def push(self, text: str, *, hidden: bool = False) -> str:
        """Take more text and return what can be shown: no part of it may belong to a stop string.

        After a stop string `stopped_at` is that string, and nothing more comes out.
        """
        if self.stopped_at is not None or not text:
            return ""
        if not self._stops:
            return "" if hidden else text
        if hidden:
            self._hidden.append(range(len(self._held), len(self._held) + len(text)))
        self._held += text
        found = self._first_completed(self._held)
        if found is not None:
            begin, self.stopped_at = found
            shown, self._held = self._shown(begin), ""
            return shown
        return self._give(len(self._held) - self._num_undecided(self._held))

    def flush(self) -> str:
        """Return the text that was held back; the stream has ended."""
        return self._give(len(self._held))

    def _give(self, size: int) -> str:
        """Let go of the first characters that are held, and return what is shown of them."""
        shown, self._held = self._shown(size), self._held[size:]
        moved = (range(max(0, r.start - size), r.stop - size) for r in self._hidden)
        self._hidden = [r for r in moved if r]
        return shown

    def _shown(self, size: int) -> str:
        parts, begin = [], 0
        for one in self._hidden:
            parts.append(self._held[begin : min(one.start, size)])
            begin = one.stop
        return "".join([*parts, self._held[begin:size]])

    def _first_completed(self, text: str) -> tuple[int, str] | None:
        best: tuple[int, int, str] | None = None
        for stop in self._stops:
            begin = text.find(stop)
            if begin >= 0:
                candidate = (begin + len(stop), begin, stop)
                best = candidate if best is None else min(best, candidate)
        return None if best is None else best[1:]

    def _num_undecided(self, text: str) -> int:
        for size in range(min(self._longest - 1, len(text)), 0, -1):
            tail = text[-size:]
            if any(stop.startswith(tail) for stop in self._stops):
                return size
        return 0


class Detokenizer:
    """Turns token ids, one at a time, into the text that they add.

    Control tokens add nothing unless `keep_control` or among `shown`, but a stop string may be one,
    or go through one. The pieces joined are what `Tokenizer.decode` gives for the ids, except that
    a space in front of the text stays: the text continues a prompt.
    """

    def __init__(
        self,
        tokenizer: "Tokenizer",
        stops: Sequence[str] = (),
        *,
        keep_control: bool = False,
        shown: Container[int] = (),
    ) -> None:
        """Take the tokenizer and stop strings; raises RequestError for bad stop strings."""
        self._tokenizer = tokenizer
        self._keep_control = keep_control
        self._shown = shown
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = StopStrings(stops)

    @property
    def stopped_at(self) -> str | None:
        """The stop string that ended the text, or None."""
        return self._stops.stopped_at

    def push(self, token_id: int) -> str:
        """Return the text that can be shown after this token; never half a character.

        Raises TokenizerError for an id outside the vocabulary.
        """
        is_hidden = not self._keep_control and token_id not in self._shown
        if is_hidden and self._tokenizer.is_control(token_id):
            text = self._tokenizer.token_bytes(token_id).decode("utf-8", "replace")
            return self._stops.push(text, hidden=True)
        return self._stops.push(self._decoder.decode(self._tokenizer.token_bytes(token_id)))

    def flush(self) -> str:
        """Return what is left at the end; an unfinished character reads as U+FFFD."""
        last = self._stops.push(self._decoder.decode(b"", final=True))
        return last + self._stops.flush()
