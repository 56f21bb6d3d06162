"""A double-array trie in the format of Darts (darts-clone), as SentencePiece's normalizer has it.

Units of 32 bits. An inner unit: bits 0 to 7 the byte that leads to it, bit 8 whether a key ends
there, bits 10 to 30 the distance (exclusive or) to its children, bit 9 whether that is times 256.
The child by byte 0 of an ended key holds its value and has bit 31 set.
"""

import base64
import struct
from collections.abc import Iterator, Mapping

_LEAF = 1 << 31


def charsmap(forms: Mapping[str, str]) -> str:
    """Return the `precompiled_charsmap` that brings each text of `forms` to what stands for it."""
    texts, values = b"", {}
    for key in sorted(forms):
        values[key.encode()] = len(texts)
        texts += forms[key].encode() + b"\0"
    units = _units(values)
    trie = struct.pack(f"<{len(units)}I", *units)
    return base64.b64encode(struct.pack("<I", len(trie)) + trie + texts).decode()


def _units(values: Mapping[bytes, int]) -> list[int]:
    units: dict[int, int] = {0: 0}
    waiting = [(0, sorted(values), 0)]
    while waiting:
        place, keys, depth = waiting.pop()
        children = dict(_children(keys, depth))
        base = next(b for b in _bases(place) if all(b ^ byte not in units for byte in children))
        units[place] |= _offset(place ^ base)
        for byte, below in children.items():
            ended = byte == 0
            units[base ^ byte] = _LEAF | values[below[0]] if ended else byte
            if ended:
                units[place] |= 1 << 8
            else:
                waiting.append((base ^ byte, below, depth + 1))
    size = (max(units) | 255) + 1
    return [units.get(i, 0) for i in range(size)]


def _children(keys: list[bytes], depth: int) -> Iterator[tuple[int, list[bytes]]]:
    found: dict[int, list[bytes]] = {}
    for key in keys:
        found.setdefault(key[depth] if depth < len(key) else 0, []).append(key)
    yield from found.items()


def _bases(place: int) -> Iterator[int]:
    """Yield where children may lie: behind what is near, in steps that an offset can tell."""
    yield from (base for base in range(256, 1 << 20) if _can_tell(place ^ base))


def _can_tell(distance: int) -> bool:
    return distance < 1 << 21 or (distance < 1 << 29 and distance % 256 == 0)


def _offset(distance: int) -> int:
    return distance << 10 if distance < 1 << 21 else (distance >> 8) << 10 | 1 << 9
