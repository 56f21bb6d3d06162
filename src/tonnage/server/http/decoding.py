"""From a body of JSON to a checked request object."""

import re
from typing import TypeVar

import msgspec

from tonnage.server.http.failures import HttpError

_WHERE = re.compile(r" - at `\$\.?([^`]*)`$")
_PART = re.compile(r"[A-Za-z_]\w*")
MAX_DEPTH = 64

Buffer = bytes | bytearray
Request = TypeVar("Request")
_decoders: dict[type, msgspec.json.Decoder[object]] = {}


def decode(kind: type[Request], body: bytes) -> Request:
    """Return `body` as a `kind`, a msgspec structure. Raises HttpError 400 for anything else."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    check_depth(body)
    try:
        value = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from None
    except msgspec.DecodeError as error:
        raise HttpError(400, f"The body is not valid JSON: {error}.", code="invalid_json") from None
    except UnicodeDecodeError as error:
        raise HttpError(
            400, f"The body is not UTF-8 (byte {error.start}).", code="invalid_json"
        ) from None
    except RecursionError:
        raise too_deep() from None
    assert isinstance(value, kind)
    return value


def check_depth(body: Buffer) -> None:
    """Raise HttpError 400 when brackets outside of strings nest deeper than MAX_DEPTH."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for found in _STRUCTURE.finditer(body):
        mark = found.group()
        if mark in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise too_deep()
        elif mark in (b"]", b"}"):
            depth -= 1


def require_few_values(body: Buffer, most: int) -> None:
    """Raise HttpError 413 for more than `most` lists and objects: each takes hundreds of bytes."""
    if body.count(b"[") + body.count(b"{") <= most:
        return
    found = sum(match.group() in (b"[", b"{") for match in _STRUCTURE.finditer(body))
    if found > most:
        raise HttpError(
            413,
            f"The body has {found:,} lists and objects; at most {most:,} are accepted "
            "(--max-body).",
            code="request_too_large",
        )


# A whole string is one match, so brackets inside of it are not seen.
_STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


def too_deep() -> HttpError:
    """Return the error for JSON that nests too deeply."""
    return HttpError(
        400, f"The body nests deeper than {MAX_DEPTH} levels; flatten it.", code="invalid_json"
    )


def _explained(words: str) -> HttpError:
    """Return what msgspec found, with the field it names as OpenAI's `param`."""
    where = _WHERE.search(words)
    if where is None:
        missing = re.search(r"missing required field `(\w+)`", words)
        param = missing.group(1) if missing else None
        return HttpError(400, f"{words}.", code="invalid_type", param=param)
    path = where.group(1)
    first = _PART.match(path)
    sentence = f"{path or 'The body'}: {words[: where.start()]}."
    return HttpError(400, sentence, code="invalid_type", param=first.group() if first else None)
