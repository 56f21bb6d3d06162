"""Text to token ids and back, over a native vocabulary."""

import os
from codecs import getincrementaldecoder
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from tonnage.core.errors import TokenizerError
from tonnage.text.special import CONTROL, Special

if TYPE_CHECKING:
    from tonnage._native import TokenizerCore
    from tonnage.text.normalizers import Normalizer

# Splits a control token in a text that is encoded with control tokens parsed; see `untrusted`. A
# noncharacter, which no text that is exchanged holds (Unicode, section 23.7).
SENTINEL = "\ufdd0"
_SENTINEL_BYTES = SENTINEL.encode()
_SPACE_MARK = "\u2581".encode()
_WINDOW_BYTES = 1 << 14
_TOKENS_AT_ONCE = 64
_UNKNOWN = 2
# Which tokens of normalized text the core looks for in a text as it stands.
_NO_SECOND, _CONTROL_SECOND, _SAME_SECOND = 0, 1, 2


class Tokenizer:
    """An immutable tokenizer; safe to share between threads.

    Built by `from_gguf` or `from_folder`. An embedding may have more rows than there are tokens;
    ids of such rows decode to nothing. Every method raises TokenizerError for ids beyond both.
    """

    def __init__(
        self, core: "TokenizerCore", special: Special, num_rows: int | None = None
    ) -> None:
        """Take a finished native core, and how many rows the embedding has if that is known.

        Ids of `special` that no row or token has are left out, each with a warning.
        """
        self._core = core
        self.vocab_size: int = core.size
        self.num_ids: int = max(core.size, num_rows or 0)
        self._special = special.within(self.num_ids, num_rows or core.size)
        self.bos_id: int | None = self._special.bos_id
        self.names: Mapping[str, str] = special.names
        self.chat_template: str | None = special.chat_template
        self.tool_template: str | None = special.tool_template
        self.eos_ids: frozenset[int] = self._special.end_ids

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, object], num_rows: int | None = None) -> "Tokenizer":
        """Build from the metadata of a GGUF file (`tokenizer.ggml.*`).

        Arrays are objects with `.buffer()`, `.count` and `.to_list()`; the buffers are read once
        and not kept. num_rows: of the embedding. Raises TokenizerError naming what is missing,
        hostile or not implemented.
        """
        from tonnage.text.gguf_source import load_gguf

        return cls(*load_gguf(metadata), num_rows)

    @classmethod
    def from_folder(cls, path: str | os.PathLike[str], num_rows: int | None = None) -> "Tokenizer":
        """Build from tokenizer.json, and tokenizer_config.json, of a Hugging Face folder.

        num_rows: of the embedding. Raises TokenizerError naming what is missing, hostile or not
        implemented.
        """
        from tonnage.text.folder_source import load_folder

        return cls(*load_folder(os.fspath(path)), num_rows)

    @property
    def knows_tools(self) -> bool:
        """Whether a chat template of the model reads `tools`."""
        return self.tool_template is not None or "tools" in (self.chat_template or "")

    @property
    def nbytes(self) -> int:
        """Native bytes held."""
        return self._core.nbytes

    def encode(
        self, text: str, *, add_special: bool, parse_special: bool, has_sentinels: bool = False
    ) -> list[int]:
        """Return the token ids of `text`.

        add_special: put the beginning and end tokens round it that the model was trained with.
        parse_special: control tokens written in the text become those tokens; otherwise they are
        plain text, as untrusted text must be. has_sentinels: SENTINEL, which splits what must not
        become a control token, is left out. Lone surrogates count as U+FFFD.
        """
        ids = self._encode_text(
            text, parse_special=parse_special, is_escaped=has_sentinels and SENTINEL in text
        )
        if add_special and (self._special.prefix or self._special.suffix):
            return [*self._special.prefix, *ids, *self._special.suffix]
        return ids

    def _encode_text(self, text: str, *, parse_special: bool, is_escaped: bool) -> list[int]:
        data, core = utf8(text), self._core
        if not is_escaped and self._is_normal(text):
            return core.encode(data, parse_special)
        second = _NO_SECOND
        if is_escaped:
            # Normalizing could make a control token out of untrusted text: in a template's prompt
            # they count as they are written.
            second = _SAME_SECOND if self._normalizer is None else _CONTROL_SECOND
        stretches = core.split(data, parse_special, second)
        ids: list[int] = []
        plain = ((begin, end, token_id) for begin, end, token_id, _, _ in stretches)
        for begin, end, token_id in _untrusted_as_text(plain, data) if is_escaped else plain:
            if token_id >= 0:
                ids.append(token_id)
                continue
            part = data[begin:end]
            if is_escaped:
                part = part.replace(_SENTINEL_BYTES, b"")
            ids += self._encode_stretch(
                part, at_start=begin == 0, parse_special=parse_special and not is_escaped
            )
        return ids

    def _is_normal(self, text: str) -> bool:
        """Whether normalizing leaves `text` and all parts of it as they are."""
        form = self._special.normal_form
        if form is None:
            return self._special.normalizer is None
        from tonnage.text.normal_form import is_normalized

        return text.isascii() or is_normalized(text, form)

    def _encode_stretch(self, data: bytes, *, at_start: bool, parse_special: bool) -> list[int]:
        core, normalizer = self._core, self._normalizer
        if normalizer is None:
            return core.encode_plain(data, at_start)
        text, kept = normalizer(data.decode())
        data = text.encode()
        if not core.has_normalized_specials:
            return core.encode_plain(data, at_start and kept)
        ids: list[int] = []
        for begin, end, token_id, _, _ in core.split_normalized(data, parse_special):
            if token_id >= 0:
                ids.append(token_id)
            else:
                ids += core.encode_plain(data[begin:end], at_start and kept and begin == 0)
        return ids

    @cached_property
    def _normalizer(self) -> "Normalizer | None":
        form = self._special.normal_form
        if self._special.normalizer is not None or form is None:
            return self._special.normalizer
        from tonnage.text.normal_form import normalize

        return lambda text: (normalize(text, form), True)

    def control_places(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield where control tokens are written in UTF-8 `data`: (first byte, token).

        A long text is searched window by window: all its tokens at once could take fifty times what
        the text takes.
        """
        begin, parse_special = 0, True
        while begin < len(data):
            end, go_on = len(data), len(data)
            if end - begin > _WINDOW_BYTES:
                # What begins behind `go_on` could go on behind the window.
                go_on = begin + max(_WINDOW_BYTES - self._longest_special, self._longest_special)
                end = go_on + self._longest_special
            sure = go_on
            window = data[begin:end]
            stretches = self._core.split(window, parse_special, _SAME_SECOND)
            for _, _, token_id, first, last in stretches:
                at = begin + first
                if token_id < 0:
                    continue
                if at >= sure:
                    break
                go_on = max(go_on, begin + last)
                if self.is_control(token_id):
                    yield at, window[first:last]
            begin = go_on

    @cached_property
    def _longest_special(self) -> int:
        core = self._core
        normal = 1
        special = (i for i in range(self.vocab_size) if core.kind(i) != normal)
        return max((len(core.token_bytes(i)) for i in special), default=1)

    def decode(self, ids: Iterable[int], *, keep_control: bool = False) -> str:
        """Return the text of `ids`; control tokens are left out unless kept.

        Bytes that are not UTF-8 read as U+FFFD. The space that encoding puts in front of a text,
        where a vocabulary does, is taken off.
        """
        return "".join(self.decoded(list(ids), keep_control=keep_control))

    def decoded(self, ids: Sequence[int], *, keep_control: bool = False) -> Iterator[str]:
        """Yield what `decode` returns, the text of some tokens at a time."""
        decoder = getincrementaldecoder("utf-8")("replace")
        is_first = is_first_token = True
        for begin in range(0, max(1, len(ids)), _TOKENS_AT_ONCE):
            part = ids[begin : begin + _TOKENS_AT_ONCE]
            kept = [i for i in part if keep_control or not self.is_control(i)]
            pieces = [self.token_bytes(i) for i in kept]
            if is_first_token and pieces:
                pieces[0], is_first_token = self._first_bytes(kept[0]), False
            text = decoder.decode(b"".join(pieces), final=begin + _TOKENS_AT_ONCE >= len(ids))
            if is_first and text:
                is_first = False
                text = text[1:] if self._special.strips_space and text[0] == " " else text
            if text:
                yield text

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that a token stands for; a control token is its own text.

        A row without token, and a token that only pads a vocabulary, stand for nothing.
        """
        if self.vocab_size <= token_id < self.num_ids:
            return b""
        core, decoder = self._core, self._special.decoder
        if decoder is None:
            return core.token_bytes(_checked_id(token_id, self.num_ids))
        token = core.token_text(_checked_id(token_id, self.num_ids))
        return decoder(token, 1) if token else b""

    def _first_bytes(self, token_id: int) -> bytes:
        """Return what a token adds that begins a text."""
        core, special = self._core, self._special
        if token_id >= self.vocab_size or not (special.decoder or special.drops_first_marks):
            return self.token_bytes(token_id)
        token = core.token_text(token_id)
        if special.decoder:
            return special.decoder(token, 0) if token else b""
        return token.replace(_SPACE_MARK, b"")

    def is_control(self, token_id: int) -> bool:
        """Whether a token means something to the model and nothing to a reader."""
        if self.vocab_size <= token_id < self.num_ids:
            return False
        return self._core.kind(_checked_id(token_id, self.num_ids)) in (CONTROL, _UNKNOWN)

    def token_id(self, text: str) -> int | None:
        """Return the id of the token that is exactly this text, special tokens first, or None."""
        found = self._core.find(utf8(text))
        return None if found < 0 else found


def _untrusted_as_text(
    stretches: Iterable[tuple[int, int, int]], data: bytes
) -> Iterator[tuple[int, int, int]]:
    """Yield the stretches; a token that begins behind a sentinel is part of the text round it."""
    text = begun = 0
    for begin, end, token_id in stretches:
        if token_id < 0 or data.endswith(_SENTINEL_BYTES, 0, begin):
            begun, text = (begun if text else begin), end
            continue
        if text:
            yield begun, text, -1
        yield begin, end, token_id
        text = 0
    if text:
        yield begun, text, -1


def _checked_id(token_id: int, size: int) -> int:
    if not 0 <= token_id < size:
        raise TokenizerError(
            f"Token id {token_id} is outside the vocabulary; ids run from 0 to {size - 1}."
        )
    return token_id


def num_bytes_of(lead: int) -> int:
    """Return how many bytes a character of UTF-8 has that begins with the byte `lead`."""
    return 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def utf8(text: str) -> bytes:
    """Return `text` in UTF-8; lone surrogates become U+FFFD, pairs what they stand for."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Pairs of surrogates become what they stand for, single ones U+FFFD.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
