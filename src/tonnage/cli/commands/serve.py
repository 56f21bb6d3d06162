"""`tonnage serve`: models behind OpenAI's and Anthropic's interfaces."""

import logging
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from tonnage.cli.opening import on_load, open_options
from tonnage.cli.render.model_set_table import model_set_json, placement_lines, render_model_set
from tonnage.cli.render.terminal import PullProgress, StatusLine
from tonnage.core.errors import RequestError
from tonnage.core.footprint import TRACES_BYTES, answers_bytes, server_bytes
from tonnage.engine.build import ServingOptions
from tonnage.machine.memory_use import anonymous_bytes

if TYPE_CHECKING:
    from tonnage.core.plan import Plan
    from tonnage.engine.model_set import ModelSet
    from tonnage.planner.search.choose import Choice
    from tonnage.server.models.pool import ModelPool
    from tonnage.server.models.room import Rooms
    from tonnage.server.observe.trace import Tracer

_KEY_VARIABLE = "TONNAGE_API_KEY"
_COLLECTOR_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def serve(args: Namespace) -> int:
    """Serve until a signal ends it, or say with --plan what would be; return the exit code."""
    _check(args)
    log_bytes = _start_log(args)
    with_traces = _wants_traces(args.traces)
    model_set = _model_set(args, with_traces=with_traces)
    if args.plan:
        print(model_set_json(model_set) if args.json else render_model_set(model_set))
        return 0
    before = anonymous_bytes()
    try:
        from tonnage.server.http.cross_origin import require_origins
        from tonnage.server.http.exchange import Limits
        from tonnage.server.http.run import Settings, allow_connections, bind
        from tonnage.server.http.run import serve as run
        from tonnage.server.models.room import Rooms
        from tonnage.server.models.tenants import read_tenants
    except ModuleNotFoundError as error:
        raise RequestError(
            f"`tonnage serve` needs {error.name}; install it with pip install 'tonnage[serve]'."
        ) from None
    tracer = _tracer(args.traces) if with_traces else None
    server_now_bytes = log_bytes + anonymous_bytes() - before
    tenants = read_tenants(args.keys, os.environ.get(_KEY_VARIABLE))
    require_origins(args.cors, need_keys=tenants.need_keys)
    allow_connections(args.connections)
    bound = bind(args.host, args.port, need_keys=tenants.need_keys)
    limits = Limits(
        body_bytes=args.max_body << 10, connections=args.connections, drain_s=args.drain
    )
    rooms = Rooms(answers_bytes(limits.body_bytes))
    pool = _pool(args, model_set, server_now_bytes, rooms)
    try:
        _load_first(pool, model_set)
    except BaseException:
        pool.close()
        raise
    return run(pool, bound, Settings(tenants, limits, tracer, args.cors))


class PressureLog:
    """Logs what gives way when pages are short, at most a line a second; it may be hundreds."""

    def __init__(self, emit: Callable[[str], None]) -> None:
        """emit: takes a line."""
        self._emit = emit
        self._next_s = 0.0
        self._num_left_out = 0

    def __call__(self, sentence: str) -> None:
        """Log `sentence`, or count it."""
        now = monotonic()
        if now < self._next_s:
            self._num_left_out += 1
            return
        more = f" ({self._num_left_out:,} more before)" if self._num_left_out else ""
        self._next_s, self._num_left_out = now + 1, 0
        self._emit(f"{sentence}{more}")


def _start_log(args: Namespace) -> int:
    """Have log lines written as the options say; return the bytes that this takes."""
    before = anonymous_bytes()
    from tonnage.server.observe.log import configure

    configure("debug" if args.debug else args.log_level, args.log_format)
    return anonymous_bytes() - before


def _inform(line: str) -> None:
    logging.getLogger("tonnage.serve").info("%s", line)


def _warn(line: str) -> None:
    logging.getLogger("tonnage.serve").warning("%s", line)


def _check(args: Namespace) -> None:
    if args.forms and find_spec("llguidance") is None:
        raise RequestError(
            "--forms needs llguidance; install it with pip install 'tonnage[grammar]'."
        )
    if args.json and not args.plan:
        raise RequestError("--json goes with --plan: a server has nothing else to print.")
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
        ("--load-wait", args.load_wait, 1, 86_400),
    ):
        if not low <= value <= high:
            raise RequestError(f"{name} is {value}; it takes {low:,} to {high:,}.")


def _model_set(args: Namespace, *, with_traces: bool) -> "ModelSet":
    """Plan every model that is to be served; those that are not here are pulled first."""
    from tonnage.engine.model_set import make_model_set
    from tonnage.store.catalog import open_catalogs
    from tonnage.store.source import resolve

    wanted = [*([args.model] if args.model is not None else []), *args.models] or [None]
    catalogs, progress = open_catalogs(args.catalog, os.environ), PullProgress(sys.stderr)
    sources = {}
    for one in wanted:
        source = resolve(one, catalogs=catalogs, offline=args.offline, progress=progress)
        name = _name(source.name)
        if name in sources:
            raise RequestError(f"Two models are called {name}; rename one of their files.")
        sources[name] = source
    num_bytes = server_bytes(args.connections, args.max_body << 10)
    num_bytes += TRACES_BYTES if with_traces else 0
    options = ServingOptions(
        args.max_waiting,
        server_bytes=num_bytes,
        with_forms=args.forms,
        share_pages=True,
        log=PressureLog(_warn),
    )
    model_set = make_model_set(
        sources, args.memory, open_options(args, args.concurrency, options),
        pinned=[_name(name) for name in args.pin], on_choice=_teller(several=len(sources) > 1),
    )  # fmt: skip
    if len(sources) > 1 and not args.plan:
        for line in placement_lines(model_set):
            _inform(line)
    return model_set


def _teller(*, several: bool) -> "Callable[[str, Choice], None]":
    """Return what logs when something usual that was not stated had to give way."""
    from tonnage.cli.render.choice_words import given_up

    def tell(name: str, choice: "Choice") -> None:
        words = given_up(choice)
        if words:
            _warn(f"{f'{name}: ' if several else ''}{words}")
        if not several:
            _tell_pages(choice.plan)

    return tell


def _pool(
    args: Namespace, model_set: "ModelSet", server_now_bytes: int, rooms: "Rooms"
) -> "ModelPool":
    from tonnage.engine.model_set import PlacedModel, release
    from tonnage.server.models.pool import ModelPool
    from tonnage.server.models.residency import Size
    from tonnage.server.models.served_model import OnLoad, Place, ServedModel, Waits
    from tonnage.server.models.service import Service
    from tonnage.server.observe.metrics import Metrics

    aliases = aliases_of(args.alias, [model.name for model in model_set.models])

    def served(model: PlacedModel) -> ServedModel:
        names = (model.name, *aliases[model.name])

        def open_(metrics: Metrics, told: OnLoad) -> Service:
            engine = model.open(told)
            forms = args.forms
            return Service(engine, engine, names, with_forms=forms, metrics=metrics, rooms=rooms)

        size = Size(model.resident_bytes, model.loading_bytes)
        place = Place(model.co_resident, model.in_place_of)
        return ServedModel(names, size, model.context_tokens, open_, model.pinned, place)

    return ModelPool(
        [served(model) for model in model_set.models],
        model_set.capacity_bytes,
        lambda engines, placed: model_set.ledger(engines, placed, server_now_bytes),
        waits=Waits(args.max_waiting, args.load_wait),
        release=release,
        all_together_bytes=model_set.all_resident_bytes,
    )


def aliases_of(given: list[str], names: list[str]) -> Mapping[str, list[str]]:
    """Return more names by model; given: NAME for the only model, NAME=MODEL for one of several."""
    found: dict[str, list[str]] = {name: [] for name in names}
    taken = set(names)
    for text in given:
        alias, equals, model = text.partition("=")
        model = model if equals else names[0]
        if model not in found or (len(names) > 1 and not equals) or not alias:
            raise RequestError(
                f"--alias {text} names no model; with several it is NAME=MODEL, of "
                f"{', '.join(names)}."
            )
        if alias in taken:
            raise RequestError(f"--alias {text}: {alias} is a model's name already.")
        taken.add(alias)
        found[model].append(alias)
    return found


def _load_first(pool: "ModelPool", model_set: "ModelSet") -> None:
    """Load what is pinned, and a model that is the only one."""
    status = StatusLine(sys.stderr)
    try:
        for model in model_set.models:
            if model.pinned or len(model_set.models) == 1:
                pool.load_now(model.name, on_load(status))
    finally:
        status.close()


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
    _warn(f"{named} is set, but traces need opentelemetry; {way_out}")
    return False


def _tracer(url: str | None) -> "Tracer":
    try:
        from tonnage.server.observe.telemetry import otlp_tracer

        return otlp_tracer(url)
    except ModuleNotFoundError as error:
        raise RequestError(
            f"Traces need {error.name}; install it with pip install 'tonnage[otel]'."
        ) from None


def _tell_pages(plan: "Plan") -> None:
    """Say that answers share pages where not all of them could have a full context at once."""
    tokens = plan.kv.groups[0].num_pages * plan.kv.page_tokens
    if tokens < plan.concurrency * plan.context_tokens:
        _inform(
            f"{plan.concurrency} answers at once share pages of {tokens:,} tokens; each may take "
            f"{plan.context_tokens:,} of them."
        )


def _name(source: str) -> str:
    """Return what clients call a model: of a path its last part, the rest is nobody's."""
    return Path(source).stem if os.sep in source else source
