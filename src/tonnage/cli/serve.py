"""`tonnage serve`: a model behind OpenAI's and Anthropic's interfaces."""

import os
import sys
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, TextIO

from tonnage.cli.opening import open_engine
from tonnage.core.errors import RequestError
from tonnage.core.footprint import TRACES_BYTES, server_bytes
from tonnage.machine.memory_use import anonymous_bytes

if TYPE_CHECKING:
    from tonnage.engine import Engine
    from tonnage.server.trace import Tracer

_KEY_VARIABLE = "TONNAGE_API_KEY"
_COLLECTOR_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def serve(args: Namespace) -> int:
    """Serve until a signal ends it; return the exit code."""
    _check(args)
    from tonnage.serving.build import ServingOptions

    with_traces = _wants_traces(args.traces)
    num_bytes = server_bytes(args.connections, args.max_body << 10)
    options = ServingOptions(
        args.max_waiting,
        server_bytes=num_bytes + (TRACES_BYTES if with_traces else 0),
        with_forms=args.forms,
        share_pages=True,
        log=PressureLog(sys.stderr),
    )
    with open_engine(args, args.concurrency, options) as engine:
        _tell_pages(engine)
        before = anonymous_bytes()
        try:
            from tonnage.server.exchange import Limits
            from tonnage.server.run import Settings, allow_connections, bind
            from tonnage.server.run import serve as run
            from tonnage.server.tenants import read_tenants
        except ModuleNotFoundError as error:
            raise RequestError(
                f"`tonnage serve` needs {error.name}; install it with pip install 'tonnage[serve]'."
            ) from None
        tracer = _tracer(args.traces) if with_traces else None
        engine.server_bytes = anonymous_bytes() - before
        tenants = read_tenants(args.keys, os.environ.get(_KEY_VARIABLE))
        allow_connections(args.connections)
        bound = bind(args.host, args.port, need_keys=tenants.need_keys)
        limits = Limits(
            body_bytes=args.max_body << 10, connections=args.connections, drain_s=args.drain
        )
        names = [_name(engine.source.name), *(args.alias or ())]
        settings = Settings(names, tenants, limits, args.forms, tracer)
        return run(engine, bound, settings)


class PressureLog:
    """Prints what gives way when pages are short, at most a line a second; it may be hundreds."""

    def __init__(self, stream: TextIO) -> None:
        """stream: where to."""
        self._stream = stream
        self._next_s = 0.0
        self._num_left_out = 0

    def __call__(self, sentence: str) -> None:
        """Print `sentence`, or count it."""
        now = monotonic()
        if now < self._next_s:
            self._num_left_out += 1
            return
        more = f" ({self._num_left_out:,} more before)" if self._num_left_out else ""
        self._next_s, self._num_left_out = now + 1, 0
        print(f"tonnage: {sentence}{more}", file=self._stream, flush=True)


def _check(args: Namespace) -> None:
    if args.forms and find_spec("llguidance") is None:
        raise RequestError(
            "--forms needs llguidance; install it with pip install 'tonnage[grammar]'."
        )
    if args.traces is not None and not args.traces.startswith(("http://", "https://")):
        raise RequestError(
            f"--traces is {args.traces[:100]!r}; it takes an address such as http://127.0.0.1:4318."
        )
    for name, value, low, high in (
        ("--port", args.port, 0, 65_535),
        ("--connections", args.connections, 1, 65_536),
        ("--max-waiting", args.max_waiting, 1, 65_536),
        ("--max-body", args.max_body, 1, 1 << 20),
        ("--drain", args.drain, 0, 86_400),
    ):
        if not low <= value <= high:
            raise RequestError(f"{name} is {value}; it takes {low:,} to {high:,}.")


def _wants_traces(url: str | None) -> bool:
    """Return whether requests are traced. Raises RequestError when they cannot be."""
    named = next((name for name in _COLLECTOR_VARIABLES if os.environ.get(name)), None)
    if url is None and named is None:
        return False
    if find_spec("opentelemetry") is not None and find_spec("opentelemetry.sdk") is not None:
        return True
    way_out = "install it with pip install 'tonnage[otel]'."
    if url is not None:
        raise RequestError(f"--traces needs opentelemetry; {way_out}")
    # Set for everything on this machine, perhaps: no reason not to serve.
    print(f"tonnage: {named} is set, but traces need opentelemetry; {way_out}", file=sys.stderr)
    return False


def _tracer(url: str | None) -> "Tracer":
    from tonnage.server.telemetry import otlp_tracer

    return otlp_tracer(url)


def _tell_pages(engine: "Engine") -> None:
    """Say that answers share pages where not all of them could have a full context at once."""
    plan = engine.plan
    tokens = plan.kv.groups[0].num_pages * plan.kv.page_tokens
    if tokens < plan.concurrency * plan.context_tokens:
        print(
            f"tonnage: {plan.concurrency} answers at once share pages of {tokens:,} tokens; each "
            f"may take {plan.context_tokens:,} of them.",
            file=sys.stderr,
        )


def _name(source: str) -> str:
    """Return what clients call a model: of a path its last part, the rest is nobody's."""
    return Path(source).stem if os.sep in source else source
