"""Bodies that came compressed.

Specification: RFC 9110, 8.4 (codings), 15.5.16 (415); RFC 1950, 1951, 1952 (zlib, deflate, gzip).
"""

import zlib
from collections.abc import Callable

from tonnage.server.http.decoding import Buffer
from tonnage.server.http.failures import HttpError

Decode = Callable[[Buffer, int], bytes]

# Of zlib: which container the data is in.
_ZLIB, _GZIP, _BARE = 15, 31, -15
_SUPPORTED = "gzip, deflate"
# Each is looked for in what is left of the body.
_MOST_MEMBERS = 64


def decoder_of(coding: str) -> Decode | None:
    """Return what decodes a body of that Content-Encoding to at most so many bytes, None for none.

    The decoder raises HttpError 413 for more bytes than that, 400 for a body that is damaged.
    Raises HttpError 415 for a coding that is not known, and for several one upon another.
    """
    names = [name for one in coding.split(",") if (name := one.strip().lower())]
    names = [name for name in names if name != "identity"]
    match names:
        case []:
            return None
        case ["gzip" | "x-gzip"]:
            return _gunzipped
        case ["deflate"]:
            return _inflated
    raise HttpError(
        415,
        f"The Content-Encoding is {coding[:80]!r}; send {_SUPPORTED} or none.",
        code="unsupported_encoding",
        headers={"accept-encoding": _SUPPORTED},
    )


def _gunzipped(data: Buffer, most_bytes: int) -> bytes:
    """Return the members of a gzip file behind each other (RFC 1952, 2.2)."""
    whole = b""
    for _ in range(_MOST_MEMBERS):
        part, data = _decoded(data, most_bytes - len(whole), _GZIP, most_bytes)
        whole += part
        if not data:
            return whole
    raise _damaged()


def _inflated(data: Buffer, most_bytes: int) -> bytes:
    """Return data of zlib, or without its header, as some clients take `deflate` to mean."""
    is_zlib = len(data) > 1 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
    whole, rest = _decoded(data, most_bytes, _ZLIB if is_zlib else _BARE, most_bytes)
    if rest:
        raise _damaged()
    return whole


def _decoded(data: Buffer, left_bytes: int, container: int, most_bytes: int) -> tuple[bytes, bytes]:
    """Return what `data` decodes to, and what stands behind its end."""
    stream = zlib.decompressobj(container)
    try:
        # One byte more than is allowed shows that there is more.
        whole = stream.decompress(data, left_bytes + 1)
    except zlib.error:
        raise _damaged() from None
    if len(whole) > left_bytes:
        raise too_large(f"over {most_bytes:,}", most_bytes)
    if not stream.eof:
        raise _damaged()
    return whole, stream.unused_data


def too_large(size: str, most_bytes: int) -> HttpError:
    """Return the error for a body of `size` bytes."""
    sentence = f"The body has {size} bytes; at most {most_bytes:,} are accepted (--max-body)."
    return HttpError(413, sentence, code="request_too_large")


def _damaged() -> HttpError:
    return HttpError(
        400,
        "The body is not what its Content-Encoding says, or it ends early.",
        code="bad_encoding",
    )
