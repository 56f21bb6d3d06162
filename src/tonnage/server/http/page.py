"""The web page: a fixed table of files that ship with the package, and how browsers may use them.

What may load is said by a Content-Security-Policy (www.w3.org/TR/CSP3): nothing from elsewhere, no
script inside the document, no plugin, no frame around it.
"""

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from tonnage.core.record import record
from tonnage.server.http.exchange import HttpExchange
from tonnage.server.http.failures import HttpError
from tonnage.server.models.pool import ModelPool
from tonnage.server.models.tenants import Tenant

STATIC = "/static/{file}"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    # Asked again each time, so that page and server are of one version; mostly answered by a 304.
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


@record
class Asset:
    """A file of the page."""

    body: bytes
    kind: str
    etag: str


@cache
def assets() -> dict[str, Asset]:
    """Return all files by the paths they are asked for with."""
    found = dict(_walk(files("tonnage.server").joinpath("static"), "/static"))
    return {"/": found["/static/index.html"], **found}


def _walk(folder: Traversable, path: str) -> Iterator[tuple[str, Asset]]:
    for entry in folder.iterdir():
        where = f"{path}/{entry.name}"
        kind = _KINDS.get(entry.name[entry.name.rfind(".") :])
        if entry.is_dir():
            yield from _walk(entry, where)
        elif kind is not None:
            body = entry.read_bytes()
            yield where, Asset(body, kind, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


async def page(pool: ModelPool, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
    """Send a file of the page, or a 304 when the browser has it."""
    asset = assets().get(exchange.path)
    if asset is None:
        raise HttpError(404, f"The page has no file {exchange.path[:80]}.", code="not_found")
    headers = {"etag": asset.etag, **_HEADERS}
    wanted = exchange.headers.get("if-match", "*")
    if not _matches(wanted, asset.etag):
        raise HttpError(412, "The page has another version of this file.", code="changed")
    known = exchange.headers.get("if-none-match", "")
    if _matches(known.replace("W/", ""), asset.etag):
        await exchange.empty(304, headers)
        return
    await exchange.whole(asset.body, asset.kind, 200, headers, is_kept=True)


def _matches(tags: str, etag: str) -> bool:
    """Whether a list of entity tags has this one (RFC 9110, 13.1); `*` has any."""
    return tags.strip() == "*" or etag in tags.replace(" ", "").split(",")
