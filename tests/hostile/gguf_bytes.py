"""Builds GGUF files byte by byte, well-formed or not, independent of any reader or writer."""

import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)

Pair = tuple[bytes | str, int, bytes]
Row = tuple[bytes | str, tuple[int, ...], int, int]


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def string(text: bytes | str) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return u64(len(raw)) + raw


def array(kind: int, count: int, payload: bytes) -> bytes:
    return u32(kind) + u64(count) + payload


def pair(key: bytes | str, kind: int, payload: bytes) -> bytes:
    return string(key) + u32(kind) + payload


def row(name: bytes | str, ne: tuple[int, ...], ggml_type: int, offset: int) -> bytes:
    dims = b"".join(u64(n) for n in ne)
    return string(name) + u32(len(ne)) + dims + u32(ggml_type) + u64(offset)


def gguf(
    pairs: list[Pair],
    rows: list[Row],
    data: bytes = b"",
    *,
    version: int = 3,
    num_tensors: int | None = None,
    num_pairs: int | None = None,
    alignment: int = 32,
) -> bytes:
    counts = u64(len(rows) if num_tensors is None else num_tensors)
    counts += u64(len(pairs) if num_pairs is None else num_pairs)
    header = b"GGUF" + u32(version) + counts
    header += b"".join(pair(*p) for p in pairs) + b"".join(row(*r) for r in rows)
    return header + bytes(-len(header) % alignment) + data


def small_gguf() -> bytes:
    """A valid file with every value type, three tensors and 160 bytes of data."""
    pairs: list[Pair] = [
        ("general.architecture", STRING, string("llama")),
        ("general.alignment", U32, u32(32)),
        ("a.flag", BOOL, b"\x01"),
        ("a.byte", U8, b"\xff"),
        ("a.signed", I64, struct.pack("<q", -5)),
        ("a.real", F64, struct.pack("<d", 0.25)),
        ("a.tokens", ARRAY, array(STRING, 3, string("<s>") + string("é") + string(""))),
        ("a.scores", ARRAY, array(F32, 2, struct.pack("<2f", 1.5, -2.0))),
        ("a.flags", ARRAY, array(BOOL, 2, b"\x00\x01")),
        ("a.empty", ARRAY, array(I32, 0, b"")),
    ]
    rows: list[Row] = [
        ("plain", (4, 2), 0, 0),
        ("packed", (32, 3), 2, 32),
        ("half", (3,), 1, 96),
    ]
    return gguf(pairs, rows, bytes(range(160)))
