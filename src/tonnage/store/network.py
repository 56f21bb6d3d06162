"""Whether a host can be found at all, so that a machine without a network says so at once."""

import os
import socket
from threading import Thread
from urllib.parse import urlsplit

_PATIENCE_S = 0.8
_PROXIES = ("https_proxy", "http_proxy", "all_proxy")


def missing_host(address: str) -> str | None:
    """Return the host of an address if it has no address itself, None where it may have one.

    A proxy looks names up, so nothing is asked where there is one. A resolver that does not answer
    within 0.8 s counts as slow.
    """
    parts = urlsplit(address)
    host = parts.hostname or ""
    names = {name.lower() for name, value in os.environ.items() if value}
    if not host or names & set(_PROXIES):
        return None
    found: list[bool] = []

    def look() -> None:
        try:
            socket.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
            found.append(True)
        except OSError:
            found.append(False)

    thread = Thread(target=look, daemon=True)
    thread.start()
    thread.join(_PATIENCE_S)
    return host if found == [False] else None
