"""Connections stand on private parts of uvicorn; a release without them fails here."""

import asyncio
import inspect
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import h11
import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from tonnage.server.http.connection import Connection, bounded
from tonnage.server.http.exchange import ServerLimits

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
OVERRIDDEN = {
    "connection_made": ["self", "transport"],
    "connection_lost": ["self", "exc"],
    "data_received": ["self", "data"],
    "on_response_complete": ["self"],
    "pause_writing": ["self"],
    "send_400_response": ["self", "msg"],
    "resume_writing": ["self"],
}
REQUEST = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n"


class MemoryTransport(asyncio.Transport):
    """Takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data):
        self.written += data

    def close(self):
        self.closed = True

    abort = close

    def is_closing(self):
        return self.closed

    def get_write_buffer_size(self):
        return 0

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


async def app(scope, receive, send):
    """Answer with the body of the request."""
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def connected(**limits) -> tuple[Connection, MemoryTransport]:
    """Return a connection that was just made, and what it writes to; for a running event loop."""
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
    protocol = bounded(ServerLimits(**limits))(config, ServerState(), {})
    transport = MemoryTransport()
    protocol.connection_made(transport)
    return protocol, transport


def test_the_installed_uvicorn_is_one_that_the_package_allows():
    """An upper bound must stand wherever uvicorn is asked for."""
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    stated = {one for extra in extras.values() for one in extra if one.startswith("uvicorn")}
    (requirement,) = stated
    found = re.fullmatch(r"uvicorn>=0\.(\d+),<0\.(\d+)", requirement)
    assert found is not None, requirement
    minor = int(version("uvicorn").split(".")[1])
    assert int(found[1]) <= minor < int(found[2])


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_uvicorn_calls_the_methods_that_we_extend_as_before(name):
    assert name in vars(Connection)
    assert list(inspect.signature(getattr(H11Protocol, name)).parameters) == OVERRIDDEN[name]


def test_a_connection_has_the_parts_of_uvicorn_that_bounds_are_read_from():
    async def run() -> None:
        protocol, transport = connected()
        assert protocol.cycle is None
        assert protocol.is_quiet
        assert protocol.flow.write_paused is False
        assert isinstance(protocol.conn, h11.Connection)
        assert protocol.conn.trailing_data[0] == b""
        assert protocol.transport is transport
        assert protocol.loop is asyncio.get_running_loop()
        protocol.pause_writing()
        assert protocol.flow.write_paused is True
        protocol.resume_writing()
        assert protocol.flow.write_paused is False
        protocol.connection_lost(None)

    asyncio.run(run())


def test_a_request_makes_a_cycle_and_its_end_calls_our_method(monkeypatch):
    ended = []
    original = Connection.on_response_complete
    monkeypatch.setattr(
        Connection, "on_response_complete", lambda self: (ended.append(self), original(self))
    )

    async def run() -> None:
        protocol, transport = connected()
        protocol.data_received(REQUEST)
        assert isinstance(protocol.cycle, RequestResponseCycle)
        assert protocol.cycle.response_complete is False
        assert not protocol.is_quiet
        protocol.data_received(b"ok")
        async with asyncio.timeout(5):
            while not ended:
                await asyncio.sleep(0)
        assert ended == [protocol]
        assert protocol.cycle.response_complete is True
        assert protocol.is_quiet
        assert transport.written.startswith(b"HTTP/1.1 200")
        assert b"\r\nok\r\n" in transport.written
        protocol.connection_lost(None)

    asyncio.run(run())


def test_what_was_read_beyond_a_request_is_seen_before_it_is_parsed():
    """A header of too many lines that came behind a request is refused by its raw bytes."""

    async def run() -> None:
        protocol, transport = connected()
        protocol.data_received(REQUEST + b"ok" + b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200)
        async with asyncio.timeout(5):
            while not transport.closed:
                await asyncio.sleep(0)
        assert transport.written.count(b"HTTP/1.1 ") == 1

    asyncio.run(run())


def test_the_server_has_the_hooks_that_ending_stands_on():
    server = uvicorn.Server(uvicorn.Config(app))
    assert (server.should_exit, server.force_exit, server.started) == (False, False, False)
    parameters = inspect.signature(uvicorn.Server.handle_exit).parameters
    assert list(parameters) == ["self", "sig", "frame"]
    assert "sockets" in inspect.signature(uvicorn.Server.startup).parameters
    assert hasattr(uvicorn.Server, "capture_signals")
