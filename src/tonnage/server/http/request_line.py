"""What HTTP/1.1 demands of a request before its route is looked for.

Specification: RFC 9110 (semantics), RFC 9112 (messages); clauses are named where they are kept.
"""

import re
from collections.abc import Mapping
from urllib.parse import unquote

from tonnage.server.http.failures import HttpError

# RFC 9110, 9.3, and RFC 5789. Others are not known (9.1: 501), nor is there a tunnel (9.3.6).
_METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
_ABSOLUTE = re.compile(r"https?://(?P<authority>[^/?#]*)(?P<path>[^?#]*)", re.IGNORECASE)
# RFC 9110, 4.2 and 7.2: uri-host [":" port], without user information.
_HOST = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+(?:%25[\w.~-]+)?\]|[\w.~!$&'()*+,;=%-]*)(?::\d*)?", re.ASCII
)


def target_of(raw_path: bytes, path: str) -> tuple[str, str | None]:
    """Return the path of a request target, and the host where the target names one.

    A server takes the absolute form, and its host counts in place of the field (RFC 9112, 3.2.2).
    """
    found = _ABSOLUTE.fullmatch(raw_path.decode("latin-1"))
    if found is None or not found["authority"]:  # no host is an error (RFC 9110, 4.2.1)
        return path, None
    return unquote(found["path"]) or "/", found["authority"]


def require_sound(method: str, version: str, path: str, headers: Mapping[str, str]) -> None:
    """Raise HttpError for a request that may not be served, whatever it asks for.

    505 for another major version (RFC 9110, 15.6.6), 501 for a method that is not known (9.1), 417
    for an expectation that is not (10.1.1), 400 for a body with two lengths (RFC 9112, 6.1), for a
    Host that is none (RFC 9112, 3.2) and for a target of no form (3.2.1 to 3.2.4).
    """
    if not version.startswith("1."):
        raise _closing(505, f"HTTP/{version} is not spoken here; send HTTP/1.1.", "http_version")
    if "transfer-encoding" in headers and ("content-length" in headers or version == "1.0"):
        raise _closing(
            400,
            "The header has Transfer-Encoding beside Content-Length, or in HTTP/1.0; where the "
            "body ends is not sure.",
            "bad_framing",
        )
    if not _HOST.fullmatch(headers.get("host", "")):
        raise _closing(400, f"The Host {headers['host'][:80]!r} is no host.", "bad_host")
    if method not in _METHODS:
        raise HttpError(501, f"The method {method[:40]!r} is not known.", code="unknown_method")
    if not path.startswith("/") and (method, path) != ("OPTIONS", "*"):
        raise _closing(400, f"The target {path[:80]!r} is no path.", "bad_target")
    if headers.get("expect", "100-continue").lower() != "100-continue":
        wanted = headers["expect"][:40]
        raise _closing(417, f"The expectation {wanted!r} is not known.", "unknown_expectation")


def _closing(status: int, sentence: str, code: str) -> HttpError:
    """Return an error behind which nothing on the connection can be trusted."""
    return HttpError(status, sentence, code=code, headers={"connection": "close"})
