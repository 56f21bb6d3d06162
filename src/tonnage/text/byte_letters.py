"""The printable alphabet in which byte-level vocabularies are written (GPT-2)."""

_OWN = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_SPARE = iter(range(0x100, 0x200))

# By byte: the letter that stands for it.
LETTERS = tuple(chr(byte if byte in _OWN else next(_SPARE)) for byte in range(256))
BYTES = {letter: byte for byte, letter in enumerate(LETTERS)}
