"""`tonnage ps` and `tonnage stop`: the servers of this user on this machine."""

import json
import os
import signal
import time
from argparse import Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING

from tonnage.core.errors import RequestError
from tonnage.core.units import format_bytes

if TYPE_CHECKING:
    from tonnage.server.observe.running import RunningServer

_LOOK_EVERY_S = 0.05


def list_servers(args: Namespace) -> int:
    """Print the servers that run; return 0."""
    from tonnage.server.observe.running import running_servers

    servers = running_servers()
    if args.json:
        print(json.dumps([asdict(one) for one in servers]))
    elif not servers:
        print("No server of yours runs here; `tonnage serve` starts one.")
    else:
        print(f"{'PID':>8} {'UP':>8} {'MEMORY':>10}  {'ADDRESS':24} MODELS")
        for one in servers:
            print(
                f"{one.pid:8} {_span(one.seconds):>8} {format_bytes(one.rss_bytes):>10}  "
                f"{one.address:24} {', '.join(one.models)}"
            )
    return 0


def stop(args: Namespace) -> int:
    """End a server: running answers may finish, as after Ctrl-C; return 0 once it has ended.

    Raises RequestError where none or several are meant, and for one that does not end.
    """
    server = _meant(args.server)
    begin = time.monotonic()
    _signal(server, signal.SIGTERM)
    while server.is_alive():
        if time.monotonic() - begin > args.wait:
            raise RequestError(
                f"The server {server.pid} still answers after {args.wait} s; `tonnage stop` again "
                "with a longer --wait, or end it with kill."
            )
        time.sleep(_LOOK_EVERY_S)
    seconds = time.monotonic() - begin
    if args.json:
        print(json.dumps({"pid": server.pid, "address": server.address, "seconds": seconds}))
    else:
        print(f"{server.address} (process {server.pid}) has ended after {seconds:.1f} s")
    return 0


def _meant(word: str | None) -> "RunningServer":
    """Return the server that a process id, a port or an address names; the only one for None."""
    from tonnage.server.observe.running import running_servers

    servers = running_servers()
    fitting = [one for one in servers if word in (None, str(one.pid), one.port, one.address)]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(f"{one.pid} ({one.address})" for one in servers)
    if not servers:
        raise RequestError("No server of yours runs here, so there is none to stop.")
    if not fitting:
        raise RequestError(f"No server has the process, port or address {word!r}; {known} run.")
    raise RequestError(f"{len(fitting)} servers run; name one of them: {known}.")


def _signal(server: "RunningServer", number: signal.Signals) -> None:
    """Send a signal to just that process, and to none that got its number since."""
    try:
        handle = os.pidfd_open(server.pid)
    except ProcessLookupError:
        return
    try:
        if server.is_alive():
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


def _span(seconds: float) -> str:
    """Return a time in its two largest units."""
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    hours = whole // 3600
    return f"{hours}h {whole // 60 % 60:02}m" if hours < 48 else f"{hours // 24}d {hours % 24}h"
