"""`tonnage serve`: a model behind OpenAI's and Anthropic's interfaces."""

import os
from argparse import Namespace
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from tonnage.cli.opening import open_engine
from tonnage.core.errors import RequestError
from tonnage.core.footprint import FORMS_BYTES, FORMS_TOKEN_BYTES, server_bytes
from tonnage.machine.memory_use import anonymous_bytes

_KEY_VARIABLE = "TONNAGE_API_KEY"


def serve(args: Namespace) -> int:
    """Serve until a signal ends it; return the exit code."""
    _check(args)
    from tonnage.serving.build import ServingOptions

    num_bytes = server_bytes(args.connections, args.max_body << 10)
    options = ServingOptions(args.max_waiting, server_bytes=num_bytes)
    if args.forms:
        options = replace(
            options,
            server_bytes=num_bytes + FORMS_BYTES,
            server_token_bytes=FORMS_TOKEN_BYTES,
        )
    with open_engine(args, args.concurrency, options) as engine:
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
        engine.server_bytes = anonymous_bytes() - before
        tenants = read_tenants(args.keys, os.environ.get(_KEY_VARIABLE))
        allow_connections(args.connections)
        bound = bind(args.host, args.port, need_keys=tenants.need_keys)
        limits = Limits(
            body_bytes=args.max_body << 10, connections=args.connections, drain_s=args.drain
        )
        names = [_name(engine.source.name), *(args.alias or ())]
        settings = Settings(names, tenants, limits, args.forms)
        return run(engine, bound, settings)


def _check(args: Namespace) -> None:
    if args.forms and find_spec("llguidance") is None:
        raise RequestError(
            "--forms needs llguidance; install it with pip install 'tonnage[grammar]'."
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


def _name(source: str) -> str:
    """Return what clients call a model: of a path its last part, the rest is nobody's."""
    return Path(source).stem if os.sep in source else source
