"""Running the server: a socket, an event loop, and an end that lets answers finish."""

import asyncio
import contextlib
import logging
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field

import uvicorn

from tonnage.core.errors import RequestError, TonnageError
from tonnage.core.record import record
from tonnage.core.version import VERSION
from tonnage.machine.allocator import return_large_blocks
from tonnage.server.http.app import App
from tonnage.server.http.connection import bounded
from tonnage.server.http.cross_origin import CrossOrigin
from tonnage.server.http.exchange import PART_BYTES, ServerLimits
from tonnage.server.models.pool import ModelPool
from tonnage.server.models.tenants import Tenants
from tonnage.server.observe.log import log
from tonnage.server.observe.running import announced
from tonnage.server.observe.trace import Tracer

# Files that are open anyway, and connections that are being refused or have just been cut off.
_OTHER_FILES = 320
# Connections that the system keeps until they are accepted; beyond, a client tries again in 1 s.
_WAITING_CONNECTIONS = 1024


@record
class Settings:
    """How models are served. read_tenants: reads the keys anew, when SIGHUP asks for that."""

    tenants: Tenants
    limits: ServerLimits = field(default_factory=ServerLimits)
    tracer: Tracer | None = None  # receives finished requests; closed in the end
    origins: Sequence[str] = ()  # of pages elsewhere that may read answers
    read_tenants: Callable[[], Tenants] | None = None


def bind(host: str, port: int, *, need_keys: bool) -> socket.socket:
    """Return a socket that is bound and does not listen yet; port 0 takes a free one.

    Raises RequestError for an address that others reach when no key protects it, and for one that
    cannot be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RequestError(f"The host {host!r} is unknown ({error}).") from None
    family, kind, protocol, _, address = found[0]
    if not need_keys and not _is_loopback(str(address[0])):
        raise RequestError(
            f"{host} can be reached by others; serve it with --keys FILE or TONNAGE_API_KEY, or "
            "stay on 127.0.0.1."
        )
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise RequestError(
            f"{host}:{port} cannot be served ({error.strerror}); choose another --port."
        ) from None
    return bound


def allow_connections(count: int) -> None:
    """Let this process have the files that `count` connections need; raises RequestError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHER_FILES
    if wanted <= soft or soft == resource.RLIM_INFINITY:
        return
    if wanted > hard != resource.RLIM_INFINITY:
        raise RequestError(
            f"--connections {count:,} needs {wanted:,} open files and this process may have "
            f"{hard:,}; raise that limit (ulimit -Hn) or allow fewer connections."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Ends after SIGTERM or Ctrl-C with the answers that run; a second Ctrl-C cuts them off.

    SIGHUP calls `reread` between two events; nothing that runs is touched by the signal itself.
    """

    def __init__(self, config: uvicorn.Config, app: App) -> None:
        super().__init__(config)
        self.app = app
        self.reread: Callable[[], None] = lambda: None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # see cli/commands/serve.py
        for one in sockets or ():
            # Accepting 100 at a time is enough; more may wait for it than that.
            one.listen(_WAITING_CONNECTIONS)
            names = ", ".join(model.name for model in self.app.pool.models)
            port = one.getsockname()[1]
            log(logging.INFO, f"{names} at {_address(one)} (Ctrl-C ends)", port=port)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        in_main = threading.current_thread() is threading.main_thread()
        kinds = (signal.SIGINT, signal.SIGTERM) if in_main else ()
        before = {kind: signal.signal(kind, self.handle_exit) for kind in kinds}
        if in_main:
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self.handle_reread)
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def handle_reread(self, sig: int, frame: object) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.reread)

    def handle_exit(self, sig: int, frame: object) -> None:
        # The event loop's own thread, but in the middle of anything.
        self.app.draining = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.app.drain)
        super().handle_exit(sig, None)


def server_of(app: App, limits: ServerLimits, origins: Sequence[str] = ()) -> _Server:
    """Return the server of `app`; its `serve` takes sockets and ends when `should_exit` is set."""
    connection = bounded(limits)
    app.pool.num_connections = lambda: len(connection.open)
    config = uvicorn.Config(
        CrossOrigin(app, origins) if origins else app,
        loop="asyncio",
        http=connection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        h11_max_incomplete_event_size=PART_BYTES,
        proxy_headers=False,
        server_header=False,
        backlog=100,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(limits.drain_s),
    )
    return _Server(config, app)


def reread(app: App, read_tenants: Callable[[], Tenants] | None) -> None:
    """Take the keys as they are now, and load models anew whose files have changed.

    What runs goes on, by the key and the weights that it began with. Where the keys cannot be read
    those of before stay, and the log says why.
    """
    if read_tenants is not None:
        try:
            count = app.use_tenants(read_tenants())
        except (TonnageError, OSError) as error:
            log(logging.ERROR, f"Keys were not read anew, the old ones stay: {error}")
        else:
            log(logging.INFO, f"Keys were read anew; {count} are known.")
    for name in app.pool.replace_changed():
        log(logging.INFO, f"{name} has changed on disk; the next request loads it anew.")


def serve(pool: ModelPool, bound: socket.socket, settings: Settings) -> int:
    """Serve a pool on a bound socket until a signal ends it; return the exit code."""
    return_large_blocks()
    app = App(pool, settings.tenants, settings.limits, settings.tracer)
    server = server_of(app, settings.limits, settings.origins)
    server.reread = lambda: reread(app, settings.read_tenants)
    try:
        with announced(_address(bound), [model.name for model in pool.models], VERSION):
            asyncio.run(server.serve(sockets=[bound]))
    finally:
        pool.close()
        if settings.tracer is not None:
            settings.tracer.close()
    return 130 if server.force_exit else 0
