"""From options to a running server: planned first, then loaded and bound, without a word printed.

The parts of the server are imported when it is run: what they grow the process by is measured, and
a plan alone does without them.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from tonnage.core.errors import RequestError
from tonnage.core.footprint import TRACES_BYTES, responses_bytes, server_bytes
from tonnage.core.options import check_ranges, filled
from tonnage.core.record import record
from tonnage.engine.build import ServingOptions
from tonnage.engine.model_set import ModelSet, PlacedModel, make_model_set, model_set_of, release
from tonnage.engine.opening import constraints_of, serving_of
from tonnage.engine.plan_files import stated_plan
from tonnage.machine.memory_use import Start, anonymous_bytes
from tonnage.planner.plan_file import PlanFile
from tonnage.server.observe.pressure import PressureLog
from tonnage.server.options import DEFAULT_CONCURRENCY, ServeOptions
from tonnage.server.structured_plan import with_tables
from tonnage.store.catalog import open_catalogs
from tonnage.store.identity import files_stamp
from tonnage.store.source import ModelSource, require_means, resolve

if TYPE_CHECKING:
    from socket import socket

    from tonnage.planner.search.choose import PlanChoice
    from tonnage.server.http.run import Settings
    from tonnage.server.models.pool import ModelPool
    from tonnage.server.models.response_memory import ResponseMemory
    from tonnage.server.models.served_model import ServedModel
    from tonnage.server.observe.trace import Tracer
    from tonnage.store.progress import Progress

_KEY_VARIABLE = "TONNAGE_API_KEY"
COLLECTOR_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@record
class Observers:
    """What receives news while a server is planned; each may be left out.

    progress: of downloads. on_choice: the name of each model and what was chosen for it.
    """

    progress: "Progress | None" = None
    on_choice: "Callable[[str, PlanChoice], None] | None" = None


@record
class PlannedServer:
    """The models of a server, planned, and its options, every one of them filled in."""

    models: ModelSet
    options: ServeOptions
    with_traces: bool


def serve(*models: str, memory: str | int | None = None, **options: Unpack[ServeOptions]) -> int:
    """Serve `models`, the catalog's default if none is named, until a signal ends it.

    memory: of the whole process, what it can get when left out. options: the fields of
    ServeOptions. Returns 0, or 130 after a second Ctrl-C. Raises a TonnageError subclass for
    everything that can go wrong before it listens.
    """
    return load_server(plan_server(models, memory, **options)).run()


def plan_server(
    models: Sequence[str],
    memory: str | int | None = None,
    observers: Observers | None = None,
    **options: Unpack[ServeOptions],
) -> PlannedServer:
    """Plan every model of a server; those that are not here are pulled first.

    Arguments and errors as of `serve`.
    """
    observers = observers or Observers()
    every: ServeOptions = filled(ServeOptions, {"concurrency": DEFAULT_CONCURRENCY, **options})
    check_ranges(ServeOptions, every.get)
    with_traces = wants_traces(every.get("traces"))
    serving = _serving(every, with_traces=with_traces)
    file = _plan_file(models, every)
    if file is not None:
        models = models or (file.model,)
    sources = _sources(models, every, observers)

    def plan(serving: ServingOptions, start: Start | None) -> ModelSet:
        if file is not None:
            ((name, source),) = sources.items()
            return model_set_of(name, source, file, memory, serving, start=start)
        constraints = constraints_of(every, serving)
        pinned = [_name(name) for name in every.get("pin", ())]
        return make_model_set(sources, memory, constraints, serving, pinned=pinned, start=start)

    model_set = with_tables(plan, serving, every["structured_output"])
    if observers.on_choice is not None:
        for model in model_set.models:
            observers.on_choice(model.name, model.placement.choice)
    return PlannedServer(model_set, every, with_traces)


def _plan_file(models: Sequence[str], options: ServeOptions) -> PlanFile | None:
    """Return the plan to serve by, None where none is stated.

    Raises RequestError for what a plan leaves no choice of, PlanFileError.
    """
    path = options.get("plan_file")
    if path is None:
        return None
    if len(models) > 1 or options.get("pin"):
        raise RequestError("A plan file is for one model; leave out the others, and --pin.")
    usual = ("concurrency", DEFAULT_CONCURRENCY)
    return stated_plan(path, dict(one for one in options.items() if one != usual))


def _serving(options: ServeOptions, *, with_traces: bool) -> ServingOptions:
    num_bytes = server_bytes(options["connections"], options["max_body"] << 10)
    serving = ServingOptions(
        options["max_waiting"],
        server_bytes=num_bytes + (TRACES_BYTES if with_traces else 0),
        share_pages=True,
        log=PressureLog(_warn),
    )
    return serving_of(options, serving)


def _sources(
    models: Sequence[str], options: ServeOptions, observers: Observers
) -> dict[str, ModelSource]:
    """Return the models by the names that clients call them."""
    catalogs = open_catalogs(options.get("catalog"), os.environ)
    sources: dict[str, ModelSource] = {}
    require_means(models or (None,), catalogs)
    for one in models or (None,):
        source = resolve(
            one, catalogs=catalogs, offline=options["offline"], progress=observers.progress
        )
        name = _name(source.name)
        if name in sources:
            raise RequestError(f"Two models are called {name}; rename one of their files.")
        sources[name] = source
    return sources


def _name(source: str) -> str:
    """Return what clients call a model: of a path its last part, the rest is private."""
    return Path(source).stem if os.sep in source else source


@record
class LoadedServer:
    """A server with its first models in memory and its address taken; it does not listen yet."""

    pool: "ModelPool"
    bound: "socket"
    settings: "Settings"

    def run(self) -> int:
        """Serve until a signal ends it; returns as `serve`."""
        from tonnage.server.http.run import serve as run

        return run(self.pool, self.bound, self.settings)


def load_server(
    planned: PlannedServer,
    on_load: Callable[[int, int], None] = lambda done, total: None,
    *,
    log_bytes: int = 0,
) -> LoadedServer:
    """Take the address, and load what is pinned, and a model that is the only one.

    on_load receives the bytes placed so far, and of all. log_bytes: what logging has grown the
    process by. Raises as `serve`.
    """
    options, before = planned.options, anonymous_bytes()
    try:
        from tonnage.server.http.run import bind
        from tonnage.server.models.response_memory import ResponseMemory
    except ModuleNotFoundError as error:
        raise RequestError(
            f"`tonnage serve` needs {error.name}; install it with pip install 'tonnage[serve]'."
        ) from None
    tracer = _tracer(options.get("traces")) if planned.with_traces else None
    server_now_bytes = log_bytes + anonymous_bytes() - before
    settings = _settings(options, tracer)
    bound = bind(options["host"], options["port"], need_keys=settings.tenants.need_keys)
    pool = _pool(
        planned, server_now_bytes, ResponseMemory(responses_bytes(settings.limits.body_bytes))
    )
    try:
        for model in planned.models.models:
            if model.pinned or len(planned.models.models) == 1:
                pool.load_now(model.name, on_load)
    except BaseException:
        pool.close()
        raise
    return LoadedServer(pool, bound, settings)


def _settings(options: ServeOptions, tracer: "Tracer | None") -> "Settings":
    """Return how the models are served. Raises RequestError for keys and origins."""
    from tonnage.server.http.cross_origin import require_origins
    from tonnage.server.http.exchange import ServerLimits
    from tonnage.server.http.run import Settings, allow_connections
    from tonnage.server.models.tenants import read_tenants

    read = partial(read_tenants, options.get("keys"), os.environ.get(_KEY_VARIABLE))
    tenants = read()
    origins = options.get("cors", [])
    require_origins(origins, need_keys=tenants.need_keys)
    allow_connections(options["connections"])
    limits = ServerLimits(
        body_bytes=options["max_body"] << 10,
        connections=options["connections"],
        drain_s=options["drain"],
    )
    return Settings(tenants, limits, tracer, origins, read if options.get("keys") else None)


def _pool(
    planned: PlannedServer, server_now_bytes: int, response_memory: "ResponseMemory"
) -> "ModelPool":
    from tonnage.server.models.pool import ModelPool
    from tonnage.server.models.served_model import Waits

    options, model_set = planned.options, planned.models
    aliases = aliases_of(options.get("alias", ()), [model.name for model in model_set.models])
    return ModelPool(
        [_served(model, aliases[model.name], response_memory) for model in model_set.models],
        model_set.capacity_bytes,
        lambda engines, placed: model_set.ledger(engines, placed, server_now_bytes),
        waits=Waits(options["max_waiting"], options["load_wait"]),
        release=release,
        all_together_bytes=model_set.all_resident_bytes,
    )


def _served(
    model: PlacedModel,
    aliases: Sequence[str],
    response_memory: "ResponseMemory",
) -> "ServedModel":
    from tonnage.server.models.load_policy import Size
    from tonnage.server.models.served_model import OnLoad, Place, ServedModel
    from tonnage.server.models.service import Service
    from tonnage.server.observe.metrics import Metrics

    names = (model.name, *aliases)

    def open_(metrics: Metrics, on_load: OnLoad) -> Service:
        engine = model.open(on_load)
        return Service(
            engine,
            engine,
            names,
            with_structured_output=model.serving.with_structured_output,
            metrics=metrics,
            response_memory=response_memory,
        )

    size = Size(model.resident_bytes, model.loading_bytes)
    place = Place(model.co_resident, model.in_place_of)
    return ServedModel(
        names, size, model.context_tokens, open_, model.pinned, place,
        stamp=partial(files_stamp, model.source.path),
    )  # fmt: skip


def aliases_of(given: Sequence[str], names: Sequence[str]) -> Mapping[str, list[str]]:
    """Return more names by model; given: NAME for the only model, NAME=MODEL for one of several.

    Raises RequestError for a name of no model, and one that is taken.
    """
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


def wants_traces(url: str | None) -> bool:
    """Return whether requests are traced. Raises RequestError when they cannot be.

    url: as stated; else one of COLLECTOR_VARIABLES, which are not refused without opentelemetry.
    """
    if url is not None and not url.startswith(("http://", "https://")):
        raise RequestError(
            f"The collector of traces is {url[:100]!r}; it takes an address such as "
            "http://127.0.0.1:4318."
        )
    named = next((name for name in COLLECTOR_VARIABLES if os.environ.get(name)), None)
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


def _warn(line: str) -> None:
    import logging

    logging.getLogger("tonnage.serve").warning("%s", line)


def _tracer(url: str | None) -> "Tracer":
    try:
        from tonnage.server.observe.telemetry import otlp_tracer

        return otlp_tracer(url)
    except ModuleNotFoundError as error:
        raise RequestError(
            f"Traces need {error.name}; install it with pip install 'tonnage[otel]'."
        ) from None
