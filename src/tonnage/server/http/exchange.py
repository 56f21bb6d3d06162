"""One request and its answer over ASGI, with bounds on sizes and on waiting.

Specification: asgi.readthedocs.io (HTTP), html.spec.whatwg.org (server-sent events).
"""

import asyncio
import os
import re
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec

from tonnage.core.errors import TonnageError
from tonnage.core.record import record
from tonnage.server.http.content_coding import Decode, decoder_of, too_large
from tonnage.server.http.decoding import Buffer, check_depth, require_few_values
from tonnage.server.http.failures import HttpError
from tonnage.server.http.request_line import target_of
from tonnage.server.observe.trace import Trace

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Prepared = TypeVar("Prepared")

JSON = "application/json"
# An answer goes out in parts of so many bytes, each when the buffer has space for it.
PART_BYTES = 16 << 10
# A list or object of a body takes 80 bytes to 400, and is copied once or twice for a template.
_BYTES_PER_VALUE = 64
# What a client may call its request: nothing that a log could be forged with.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_EVENT_STREAM = "text/event-stream; charset=utf-8"


@record
class ServerLimits:
    """Bounds on what a client can take of the server.

    body_bytes: of one request; all that are being answered share four times as much, and it holds a
    list or object for every 64 bytes at most. body_s, header_s: seconds to send them. stall_s:
    seconds a reader may take to drain a full buffer. connections: at once. silence_s:
    seconds without news after which a stream gives a sign of life; it begins after a tenth of that.
    drain_s: seconds that answers get to end after SIGTERM.
    """

    body_bytes: int = 256 << 10
    body_s: float = 30.0
    stall_s: float = 60.0
    connections: int = 128
    header_s: float = 15.0
    silence_s: float = 5.0
    drain_s: float = 30.0


@dataclass(slots=True)
class BodyBudget:
    """Bytes of the bodies of all requests that are being read or answered, and of answers.

    unsent_bytes: of answers and events longer than a part that are on their way. turn: whose body
    is being made into a prompt: its objects and tokens take many times what the body does.
    """

    held_bytes: int = 0
    unsent_bytes: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class HttpExchange:
    """A request; `body` reads it, then `json` or `begin_events` and `event` answer it.

    request_id: the client's own (x-request-id), else a fresh one; log lines and the answer have it.
    `release` when it is over.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, limits: ServerLimits, budget: BodyBudget
    ) -> None:
        """Take what ASGI hands over, and what this exchange shares with all others."""
        self.method: str = scope["method"]
        self.version: str = scope.get("http_version", "1.1")
        path, host = target_of(scope.get("raw_path", b""), scope["path"])
        self.path = path
        self._query: bytes = scope.get("query_string", b"")
        self.headers: dict[str, str] = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        if host is not None:
            self.headers["host"] = host
        given = self.headers.get("x-request-id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else f"req_{os.urandom(8).hex()}"
        self.trace = Trace(self.method, self.headers)
        self.started = False
        self.in_events = False
        self.has_body = False
        self.status = 0
        self._receive = receive
        self._send = send
        self._limits = limits
        self._budget = budget
        self._held_bytes = 0
        self._sending = asyncio.Lock()
        self._ended = False
        self._sent_s = 0.0

    def query(self, name: str) -> str | None:
        """Return the first value of `name` in the query, if it is there.

        Raises HttpError 400 for a query of more than 16 fields.
        """
        try:
            values = parse_qs(self._query.decode("latin-1"), max_num_fields=16).get(name)
        except ValueError:
            raise HttpError(400, "The query has too many fields.") from None
        return values[0] if values else None

    async def body(self) -> bytes:
        """Return the whole body, which must be declared as JSON.

        Raises HttpError: 415 for another type or coding, 413 for one beyond the limit, 408 for a
        slow one, 400 for a coding that it does not keep to.
        """
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != JSON:
            raise HttpError(415, f"The Content-Type is {kind[:80]!r}; send {JSON}.")
        decode = decoder_of(self.headers.get("content-encoding", ""))
        limit = self._limits.body_bytes
        declared = self.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared[:20]) > limit:
            raise too_large(f"{int(declared[:20]):,}", limit)
        try:
            async with asyncio.timeout(self._limits.body_s):
                return self._checked(await self._read(limit), decode)
        except TimeoutError:
            raise HttpError(408, f"The body took over {self._limits.body_s:g} s.") from None

    async def _read(self, limit: int) -> bytearray:
        whole = bytearray()  # a list would take ten times as much when bytes come two by two
        while True:
            event = await self._receive()
            if event["type"] != "http.request":
                raise ClientGoneError
            part = event.get("body", b"")
            self._hold(len(part))
            whole += part
            if len(whole) > limit:
                raise too_large(f"over {limit:,}", limit)
            if not event.get("more_body"):
                self.has_body = True
                return whole

    def _checked(self, body: Buffer, decode: Decode | None) -> bytes:
        """Return the body decoded; before any object is made of it, its values are counted."""
        limit = self._limits.body_bytes
        if decode is not None:
            coded_bytes = len(body)
            # All of it may be there beside what it came as.
            self._hold(limit)
            body = decode(body, limit)
            self._hold(len(body) - limit - coded_bytes)
        check_depth(body)
        require_few_values(body, max(256, limit // _BYTES_PER_VALUE))
        return bytes(body)

    def _hold(self, num_bytes: int) -> None:
        self._held_bytes += num_bytes
        self._budget.held_bytes += num_bytes
        if self._budget.held_bytes > 4 * self._limits.body_bytes:
            raise _busy("requests in progress")

    def release(self) -> None:
        """Give back what the body counted as."""
        self._budget.held_bytes -= self._held_bytes
        self._held_bytes = 0

    async def prepared(self, make: Callable[[], Awaitable[Prepared]]) -> Prepared:
        """Return what `make` does with the body, when no other request's is being prepared.

        Raises what it raises, without its frames: they would hold its objects beside the next ones.
        """
        async with self._budget.turn:
            try:
                return await make()
            except (HttpError, TonnageError) as error:
                error.__context__ = None
                raise error.with_traceback(None) from None

    async def until_gone(self) -> None:
        """Return when the client has closed the connection; to be used after `body`."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def json(
        self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer with `value` as JSON."""
        await self.whole(msgspec.json.encode(value), JSON, status, headers)

    async def whole(
        self,
        body: bytes,
        kind: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        is_kept: bool = False,
    ) -> None:
        """Answer with `body`, whose Content-Type is `kind`; is_kept: it is there anyway.

        Where `white_space` has begun the answer it is the rest of it, and headers are not sent.
        Raises HttpError 503 when answers that readers are slow to take fill what may wait for them.
        """
        with self._counted(0 if is_kept else len(body)):
            if self.started:
                await self._send_more(body)
                await self.end()
            else:
                await self._send_whole(body, {"content-type": kind, **(headers or {})}, status)

    async def _send_whole(self, body: Buffer, fields: Mapping[str, str], status: int = 200) -> None:
        await self._start(status, {**fields, "content-length": str(len(body))})
        for begin in range(0, max(1, len(body)), PART_BYTES):
            end = begin + PART_BYTES
            part = {"body": bytes(body[begin:end]), "more_body": end < len(body)}
            await self._send({"type": "http.response.body", **part})

    @contextmanager
    def _counted(self, num_bytes: int) -> Iterator[None]:
        """Count so many bytes as waiting for the reader; what goes out in one part is not."""
        budget = self._budget
        num_bytes = num_bytes if num_bytes > PART_BYTES else 0
        if num_bytes and 0 < budget.unsent_bytes > 4 * self._limits.body_bytes - num_bytes:
            raise _busy("answers on their way")
        budget.unsent_bytes += num_bytes
        try:
            yield
        finally:
            budget.unsent_bytes -= num_bytes

    async def parts(self, pieces: Iterable[bytes], held_bytes: int) -> None:
        """Answer with JSON, made piece by piece as the buffer drains; a short one goes whole.

        held_bytes: of what it is made from. Raises HttpError 503 as `whole` does.
        """
        with self._counted(held_bytes):
            held = bytearray()
            for piece in pieces:
                held += piece
                if len(held) > PART_BYTES:
                    await self.begin_parts(JSON)
                    await self._send_more(held)
                    held = bytearray()
                    await asyncio.sleep(0)  # others have their turn, however fast the reader is
            if not self.started:
                await self._send_whole(held, {"content-type": JSON})
                return
            await self._send_more(held)
            await self.end()

    async def empty(self, status: int, headers: Mapping[str, str]) -> None:
        """Answer without a body, as a 304 has to."""
        await self._start(status, headers)
        await self._send({"type": "http.response.body", "body": b""})

    async def begin_events(self, headers: Mapping[str, str] | None = None) -> None:
        """Begin a stream of server-sent events, unless it has begun."""
        fields = {"content-type": _EVENT_STREAM, "cache-control": "no-store", **(headers or {})}
        async with self._sending:
            if not self.started:
                self.in_events = True
                await self._start(200, fields)

    def signs_of_life(self, sign: bytes) -> AbstractAsyncContextManager[None]:
        """Begin a stream soon, and send `sign` after each silence: nobody takes it for dead.

        sign: an event, or a comment (a line that begins with a colon). An error that comes before
        the stream begins has its own status, a later one is an event.
        """
        return self._alive(self._limits.silence_s / 10, self.begin_events, sign)

    def white_space(
        self, headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[None]:
        """Begin an answer of JSON after a silence, and send white space after each silence.

        For what can no longer be refused: an error that comes later cuts the connection.
        """
        return self._alive(self._limits.silence_s, lambda: self.begin_parts(JSON, headers), b"\n")

    @asynccontextmanager
    async def _alive(
        self, wait_s: float, begin: Callable[[], Awaitable[None]], sign: bytes
    ) -> AsyncIterator[None]:
        task = asyncio.create_task(self._show_life(wait_s, begin, sign))
        try:
            yield
        finally:
            async with self._sending:  # not in the middle of a sign
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _show_life(
        self, wait_s: float, begin: Callable[[], Awaitable[None]], sign: bytes
    ) -> None:
        period_s, clock = self._limits.silence_s, asyncio.get_running_loop().time
        await asyncio.sleep(wait_s)
        await begin()
        while not self._ended:
            left_s = self._sent_s + period_s - clock()
            if left_s > 0:
                await asyncio.sleep(left_s)
            else:
                await self._more(sign)

    async def begin_parts(self, kind: str, headers: Mapping[str, str] | None = None) -> None:
        """Begin a body in parts, without its length, unless it has begun.

        `part` sends one, `end` ends it.
        """
        async with self._sending:
            if not self.started:
                await self._start(200, {"content-type": kind, **(headers or {})})

    async def part(self, body: bytes) -> None:
        """Send a part of the body."""
        await self._more(body)

    async def event(self, value: Any, name: str | None = None) -> None:
        """Send one event: `value` as JSON, under `name` if there is one."""
        lead = b"data: " if name is None else b"event: " + name.encode() + b"\ndata: "
        await self._more(lead + msgspec.json.encode(value) + b"\n\n")

    async def done(self) -> None:
        """Send OpenAI's mark for the end of a stream."""
        await self._more(b"data: [DONE]\n\n")

    async def end(self) -> None:
        """End a body that came in parts."""
        await self.end_events()

    async def end_events(self) -> None:
        """End the stream."""
        async with self._sending:
            self._ended = True
            await self._send({"type": "http.response.body", "body": b""})

    async def _more(self, body: bytes) -> None:
        with self._counted(len(body)):
            async with self._sending:
                if not self._ended:
                    await self._send_more(body)

    async def _send_more(self, body: Buffer) -> None:
        """Send more of the body; a large part in small ones, each when the buffer has space."""
        for begin in range(0, len(body), PART_BYTES):
            part = {"body": bytes(body[begin : begin + PART_BYTES]), "more_body": True}
            await self._send({"type": "http.response.body", **part})
        self._sent_s = asyncio.get_running_loop().time()

    async def _start(self, status: int, fields: Mapping[str, str]) -> None:
        self.started = True
        self.status = status
        pairs = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()
        ]
        pairs.append((b"x-content-type-options", b"nosniff"))
        pairs.append((b"x-request-id", self.request_id.encode()))
        if self.method == "POST" and not self.has_body and "connection" not in fields:
            # What is left of the body is not worth reading.
            pairs.append((b"connection", b"close"))
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})
        self._sent_s = asyncio.get_running_loop().time()


def _busy(what: str) -> HttpError:
    return HttpError(
        503,
        f"The {what} fill the memory meant for them; try again soon.",
        code="busy",
        headers={"retry-after": "1"},
    )


class ClientGoneError(Exception):
    """The client has closed the connection."""
