"""HTTP/1.1 over an asyncio socket, with as little between test and wire as can be."""

import asyncio
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Reply:
    """An answer: its status, header fields in small letters, and its body without chunks."""

    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection, opened when it is first used and again after it was closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def send(self, method: str, path: str, body: object = None, **headers: str) -> None:
        """Send a request; body: what is sent as JSON."""
        if self._writer is None or self._writer.is_closing():
            opened = await asyncio.open_connection("127.0.0.1", self._port)
            self._reader, self._writer = opened
        data = b"" if body is None else json.dumps(body).encode()
        fields = {"Host": "localhost", "Content-Length": str(len(data)), **headers}
        if body is not None:
            fields["Content-Type"] = "application/json"
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in fields.items()),
        ]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        await self._writer.drain()

    async def reply(self) -> Reply:
        """Return the answer. Raises ConnectionError, IncompleteReadError for a broken one."""
        assert self._reader is not None
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(": ") for line in head[1:] if line)
        headers = {name.lower(): value for name, _, value in pairs}
        if headers.get("transfer-encoding") == "chunked":
            body = await self._chunks()
        else:
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.close()
        return Reply(int(head[0].split()[1]), headers, body)

    async def _chunks(self) -> bytes:
        assert self._reader is not None
        parts = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            parts.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return b"".join(parts)

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        """Send a request and return its answer."""
        await self.send(method, path, body, **headers)
        return await self.reply()

    async def some(self) -> bytes:
        """Return what has come first of an answer."""
        assert self._reader is not None
        return await self._reader.read(1000)

    def close(self) -> None:
        """Leave, whatever is on its way."""
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None
