"""A connection that cannot be held for nothing: bounds on their number, on silence, on stalling."""

import asyncio
import json
import re
import sys
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from tonnage.server.http.exchange import JSON, PART_BYTES, ServerLimits
from tonnage.server.http.failures import HttpError

# Of one request. Each takes half a kibibyte while it is held.
_MAX_FIELDS = 100
_HEADER_END = re.compile(rb"\n\r?\n")


_FULL = HttpError(
    503,
    "All connections of this server are busy; try again soon.",
    code="busy",
    headers={"retry-after": "1"},
)
_MANY_FIELDS = HttpError(
    431,
    f"The header has more than {_MAX_FIELDS} lines; send fewer.",
    code="header_too_large",
)
_LONG_FIELDS = HttpError(
    431,
    f"The header has more than {PART_BYTES:,} bytes; send fewer.",
    code="header_too_large",
)
_LONG_TARGET = HttpError(
    414,
    f"The request line has more than {PART_BYTES:,} bytes; send what is long in the body.",
    code="target_too_long",
)
_LONG_CHUNK = HttpError(
    400,
    f"The header of a chunk, or a trailer, has more than {PART_BYTES:,} bytes.",
    code="chunk_too_long",
)
_CODING = HttpError(
    501,
    "Of transfer codings only chunked is known; send it, or a Content-Length.",
    code="unknown_coding",
)
_MALFORMED = HttpError(400, "This is no request of HTTP/1.1.", code="bad_request")


def _written(error: HttpError) -> bytes:
    """Return an answer that is made without a request; the connection ends with it."""
    body = json.dumps(error.openai()).encode()
    fields = {
        "date": formatdate(usegmt=True),
        "content-type": JSON,
        "content-length": str(len(body)),
        "connection": "close",
        **error.headers,
    }
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


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
        if self._is_idle:
            held = self.conn.trailing_data[0]
            if _is_long(held + data):
                self._refuse(_MANY_FIELDS)
                return
            if not held:
                data = data.lstrip(b"\r\n")  # lines before a request (RFC 9112, 2.2)
        if data:
            super().data_received(data)
        self._watch_header()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be read; uvicorn calls it while it handles h11's error.

        It may be the body of a request that is being answered: then the connection is cut.
        """
        error = sys.exc_info()[1]
        status = getattr(error, "error_status_hint", 400)
        if not self._is_idle:
            if self.cycle.response_started:
                self.drop()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if status == 431 and not self._is_idle:
            self._refuse(_LONG_CHUNK)
        elif status == 431:
            has_line = b"\n" in self.conn.trailing_data[0]
            self._refuse(_LONG_FIELDS if has_line else _LONG_TARGET)
        else:
            self._refuse(_CODING if status == 501 else _MALFORMED)

    def _refuse(self, error: HttpError) -> None:
        self.transport.write(_written(error))
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
