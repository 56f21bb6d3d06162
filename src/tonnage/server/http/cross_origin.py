"""Requests of web pages that other servers gave out: refused by browsers unless they are named.

Specification: fetch.spec.whatwg.org, "CORS protocol".
"""

import re
from collections.abc import Awaitable, Callable, Collection
from urllib.parse import urlsplit

from tonnage.core.errors import RequestError
from tonnage.server.http.exchange import Event, Receive, Scope, Send

Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

ANY = "*"
_PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"GET, POST"),
    (b"access-control-max-age", b"600"),
]
_EXPOSED = b"request-id, retry-after, x-request-id, x-tonnage-dropped-tokens"
# Names of header fields as browsers list them: tokens (RFC 9110, 5.6.2) in small letters.
_FIELD_NAMES = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[a-z0-9!#$%&'*+.^_`|~-]+)*")


def require_origins(origins: Collection[str], *, need_keys: bool) -> None:
    """Raise RequestError for what is no origin, and for all of them where no key is asked for."""
    for origin in origins:
        if origin == ANY:
            if not need_keys:
                raise RequestError(
                    "--cors '*' lets every page that anybody opens use this server; name the "
                    "origins, or serve with keys."
                )
            continue
        if not _is_origin(origin):
            raise RequestError(
                f"--cors is {origin[:100]!r}; it takes an origin such as https://chat.example.org, "
                "without a path."
            )


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:  # half an address of IPv6
        return False
    return bool(parts.scheme and parts.netloc) and f"{parts.scheme}://{parts.netloc}" == text


class CrossOrigin:
    """Lets pages of some origins read the answers of an application."""

    def __init__(self, application: Application, origins: Collection[str]) -> None:
        """origins: as browsers write them, or ANY."""
        self._application = application
        self._origins = frozenset(origin.encode() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of ASGI; those of unknown origins as if there were no such thing."""
        sent = dict(scope["headers"])
        origin = sent.get(b"origin", b"")
        if not origin or not self._origins & {origin, ANY.encode()}:
            await self._application(scope, receive, send)
            return
        allowed: Headers = [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"origin, access-control-request-headers"),
        ]
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in sent:
            start = {"type": "http.response.start", "status": 204}
            asked = _asked_fields(sent.get(b"access-control-request-headers", b""))
            await send({**start, "headers": [*allowed, *_PREFLIGHT, *asked]})
            await send({"type": "http.response.body", "body": b""})
            return

        async def send_allowed(event: Event) -> None:
            if event["type"] == "http.response.start":
                event = {**event, "headers": [*event["headers"], *allowed]}
            await send(event)

        await self._application(scope, receive, send_allowed)


def _asked_fields(names: bytes) -> Headers:
    """Return the permission to send the fields that a page asks for.

    Clients add fields of their own with each version. No field of a request gives a page more than
    it has already: keys are in fields too, and no cookie is ever read.
    """
    if not _FIELD_NAMES.fullmatch(names.lower()):
        return []
    return [(b"access-control-allow-headers", names.lower())]
