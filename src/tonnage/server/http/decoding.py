"""From a body of JSON to a checked request object."""

import re
from typing import TypeVar, get_type_hints

import msgspec

from tonnage.server.http.failures import HttpError

_WHERE = re.compile(r" - at `\$\.?([^`]*)`$")
_PART = re.compile(r"[A-Za-z_]\w*")
_UNKNOWN = re.compile(r"^Object contains unknown field `(.*)`$", re.DOTALL)
MAX_DEPTH = 64

Buffer = bytes | bytearray
Request = TypeVar("Request")
_decoders: dict[type, msgspec.json.Decoder[object]] = {}


def decode(kind: type[Request], body: bytes) -> Request:
    """Return `body` as a `kind`, a msgspec structure. Raises HttpError 400 for anything else.

    A field of type None is one that is refused: the description of its type says why.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    check_depth(body)
    try:
        value = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _explained(str(error), kind) from None
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


def _explained(words: str, kind: type) -> HttpError:
    """Return what msgspec found, with the field it names as OpenAI's `param`."""
    where = _WHERE.search(words)
    if where is None:
        unknown = _UNKNOWN.search(words)
        if unknown is not None:
            return _unsupported(unknown.group(1), "this server does not know it; leave it out")
        missing = re.search(r"missing required field `(\w+)`", words)
        param = missing.group(1) if missing else None
        return HttpError(400, f"{words}.", code="invalid_type", param=param)
    path = where.group(1)
    first = _PART.match(path)
    if words.startswith("Expected `null`"):
        meta = get_type_hints(kind, include_extras=True)[path].__metadata__
        return _unsupported(path, meta[0].description)
    sentence = f"{path or 'The body'}: {words[: where.start()]}."
    return HttpError(400, sentence, code="invalid_type", param=first.group() if first else None)


def _unsupported(name: str, reason: str) -> HttpError:
    sentence = f"{name[:80]} is not supported: {reason}."
    return HttpError(400, sentence, code="unsupported_parameter", param=name[:80])
