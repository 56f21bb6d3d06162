"""What may be stated of a server when it starts: each option once, beside those of its models."""

from pathlib import Path
from typing import Annotated, Literal, TypedDict, get_args

from tonnage.core.options import Option
from tonnage.engine.options import EngineOptions

DEFAULT_CONCURRENCY = 4
LogLevel = Literal["debug", "info", "warning", "error"]
Structured = Literal["auto", "on", "off"]
LOG_LEVELS: tuple[str, ...] = get_args(LogLevel)


class LogOptions(TypedDict, total=False):
    """How the command line writes its log; a program in Python configures `logging` itself."""

    log_level: Annotated[LogLevel, Option(help="lowest level to log", default="info")]
    log_format: Annotated[Literal["text", "json"], Option(help="form of log lines", default="text")]


class ServeOptions(EngineOptions, total=False):
    """All that `tonnage.serve` takes beside the models and their memory."""

    host: Annotated[
        str,
        Option(
            help="address; others than 127.0.0.1 need keys",
            unit="HOST",
            default="127.0.0.1",
        ),
    ]
    port: Annotated[
        int, Option(help="port, 0 for any free one", unit="N", default=8000, low=0, high=65_535)
    ]
    keys: Annotated[
        Path | None, Option(help="TOML of API keys and quotas; docs/serving.md", unit="FILE")
    ]
    plan_file: Annotated[
        Path | None,
        Option(help="serve one model by the plan that `tonnage plan -o FILE` wrote", unit="FILE"),
    ]
    pin: Annotated[
        list[str],
        Option(help="a model that always stays in memory; may be repeated", unit="NAME"),
    ]
    alias: Annotated[
        list[str],
        Option(help="one more name of a model; may be repeated", unit="NAME[=MODEL]"),
    ]
    structured_output: Annotated[
        Structured,
        Option(
            help="let completions be bound to JSON schemas and grammars",
            default="auto",
            usual="where llguidance is installed and its tables cost no precision or context",
            alone="on",
            former=("forms",),
        ),
    ]
    traces: Annotated[
        str | None,
        Option(help="OpenTelemetry collector, such as http://127.0.0.1:4318", unit="URL"),
    ]
    cors: Annotated[
        list[str],
        Option(
            help="an origin whose pages may use the server; may be repeated",
            unit="ORIGIN",
            usual="none",
        ),
    ]
    connections: Annotated[
        int, Option(help="connections at once", unit="N", default=128, low=1, high=65_536)
    ]
    max_waiting: Annotated[
        int, Option(help="requests that may wait", unit="N", default=64, low=1, high=65_536)
    ]
    load_wait: Annotated[
        int, Option(help="seconds to wait for a model", unit="S", default=60, low=1, high=86_400)
    ]
    max_body: Annotated[
        int, Option(help="size of a request in KiB", unit="KIB", default=256, low=1, high=1 << 20)
    ]
    drain: Annotated[
        int,
        Option(
            help="seconds that completions get to end", unit="S", default=30, low=0, high=86_400
        ),
    ]
