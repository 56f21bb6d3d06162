"""A connection that cannot be held for nothing: bounds on their number, on silence, on stalling."""

import asyncio
import re
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from tonnage.server.http.exchange import PART_BYTES, ServerLimits

# Of one request. Each takes half a kibibyte while it is held.
_MAX_FIELDS = 100
_HEADER_END = re.compile(rb"\n\r?\n")


def _answer(status: bytes, error: bytes, fields: bytes = b"") -> bytes:
    """Return an answer that is made without reading a request."""
    body = b'{"error":{%b,"param":null}}' % error
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\n%bconnection: close\r\n"
    return (head + b"content-length: %d\r\n\r\n%b") % (status, fields, len(body), body)


_FULL = _answer(
    b"503 Service Unavailable",
    b'"message":"All connections of this server are busy; try again soon.",'
    b'"type":"server_error","code":"busy"',
    b"retry-after: 1\r\n",
)
_MANY_FIELDS = _answer(
    b"431 Request Header Fields Too Large",
    b'"message":"The header has more than %d lines; send fewer.",' % _MAX_FIELDS
    + b'"type":"invalid_request_error","code":"header_too_large"',
)


def _is_long(data: bytes) -> bool:
    """Whether the header that `data` begins with is of too many lines."""
    return data.count(b"\n") > _MAX_FIELDS and (
        _HEADER_END.split(data, 1)[0].count(b"\n") > _MAX_FIELDS
    )


class Connection(H11Protocol):
    """HTTP/1.1 of uvicorn; `bounded` makes the class for one server.

    A client that sends no whole header within header_s is cut off, and so is a reader that takes
    longer than stall_s to catch up, or to take the end of an answer. Beyond `connections` the one
    that has been without a request for longest has to go, so that idle ones never lock others out;
    where all are being answered the new one gets a 503.
    """

    limits: ServerLimits
    open: "dict[Connection, None]"  # the oldest first

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, or cut an idle one off for it."""
        super().connection_made(transport)
        # What one connection may hold is planned (CONNECTION_BYTES).
        transport.set_write_buffer_limits(high=PART_BYTES)
        if hasattr(transport, "max_size"):
            transport.max_size = PART_BYTES  # of one read; asyncio's own is 256 KiB
        self._header_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self.open[self] = None
        if len(self.open) > self.limits.connections and not self._drop_an_idle_one():
            self._refuse(_FULL)
            return
        self._watch_header()

    def _drop_an_idle_one(self) -> bool:
        quiet = (one for one in self.open if one is not self and one.is_quiet)
        found = next(quiet, None)
        if found is not None:
            found.drop()
        return found is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.open.pop(self, None)
        for timer in (self._header_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of requests."""
        if not self.flow.write_paused:
            self._stop_watching_reader()
        if self._is_idle and _is_long(self.conn.trailing_data[0] + data):
            self._refuse(_MANY_FIELDS)
            return
        super().data_received(data)
        self._watch_header()

    def _refuse(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.transport.close()

    @property
    def is_quiet(self) -> bool:
        """Whether no request is being read or answered, to the last byte."""
        return self._is_idle and not self.transport.get_write_buffer_size()

    @property
    def _is_idle(self) -> bool:
        """Whether what comes next begins a request."""
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
        self._watch_reader()

    def resume_writing(self) -> None:
        """Note that the reader has caught up."""
        super().resume_writing()
        self._stop_watching_reader()

    def on_response_complete(self) -> None:
        """Go on to the next request; what the reader has not taken yet has its time too."""
        if _is_long(self.conn.trailing_data[0]):
            self.drop()  # the next request came behind this one
            return
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._watch_reader()

    def _watch_reader(self) -> None:
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(self.limits.stall_s, self._reader_late)

    def _stop_watching_reader(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _reader_late(self) -> None:
        self._stall_timer = None
        if self.transport.get_write_buffer_size():
            self.drop()


def bounded(limits: ServerLimits) -> type[Connection]:
    """Return the class of one server's connections."""
    members: dict[str, Any] = {"limits": limits, "open": {}}
    return type("BoundedConnection", (Connection,), members)
