"""A connection that cannot be held for nothing: bounds on their number, on silence, on stalling."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from tonnage.server.exchange import Limits


class Connection(H11Protocol):
    """HTTP/1.1 of uvicorn; `bounded` makes the class for one server.

    Whoever sends no whole header within header_s is cut off, and so is a reader that takes longer
    than stall_s to make room. Beyond `connections` the one that has been without a request for
    longest has to go, so that idle ones never lock anybody out.
    """

    limits: Limits
    open: "dict[Connection, None]"  # the oldest first

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, or make room for it."""
        super().connection_made(transport)
        self._header_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self.open[self] = None
        if len(self.open) > self.limits.connections:
            quiet = (one for one in self.open if one is not self and one.is_quiet)
            next(quiet, self).drop()
        self._watch_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.open.pop(self, None)
        for timer in (self._header_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of requests."""
        super().data_received(data)
        self._watch_header()

    @property
    def is_quiet(self) -> bool:
        """Whether no request is being read or answered."""
        return self.cycle is None or self.cycle.response_complete

    def drop(self) -> None:
        """Cut the connection off, whatever is in its buffers."""
        self.open.pop(self, None)
        self.transport.abort()

    def _watch_header(self) -> None:
        if not self.is_quiet:
            if self._header_timer is not None:
                self._header_timer.cancel()
                self._header_timer = None
        elif self._header_timer is None:
            self._header_timer = self.loop.call_later(self.limits.header_s, self._header_late)

    def _header_late(self) -> None:
        self._header_timer = None
        if self.is_quiet:
            self.drop()

    def pause_writing(self) -> None:
        """Note that the reader does not keep up."""
        super().pause_writing()
        self._stall_timer = self.loop.call_later(self.limits.stall_s, self.drop)

    def resume_writing(self) -> None:
        """Note that there is room again."""
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


def bounded(limits: Limits) -> type[Connection]:
    """Return the class of one server's connections."""
    members: dict[str, Any] = {"limits": limits, "open": {}}
    return type("BoundedConnection", (Connection,), members)
