"""Opening the engine that the options of a command ask for."""

import sys
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tonnage.cli.render.terminal import PullProgress, StatusLine
from tonnage.core.options import described
from tonnage.engine.options import EngineOptions, MemoryOptions

if TYPE_CHECKING:
    from tonnage.engine.build import ServingOptions
    from tonnage.engine.engine import Engine


def open_engine(args: Namespace, serving: "ServingOptions | None" = None) -> "Engine":
    """Return the engine for the options of a command.

    serving: more about how sequences are served; where pages go on disk is in `args`. A load that
    takes long shows itself on a terminal.
    """
    from tonnage.engine.engine import Engine

    status = StatusLine(sys.stderr)
    try:
        engine = Engine.open(
            args.model,
            args.memory,
            plan=getattr(args, "plan", None),
            serving=serving,
            progress=PullProgress(sys.stderr),
            on_load=on_load(status),
            **stated(EngineOptions, args),
        )
    finally:
        status.close()
    tell_choice(engine)
    return engine


def is_base(engine: "Engine") -> bool:
    """Return whether a model only goes on with texts: it has no chat template."""
    return engine.tokenizer.chat_template is None


def stated(group: type, args: Namespace) -> Any:
    """Return what `args` state of a group of options, as a dict that `group` types."""
    values = {one.name: getattr(args, one.name, None) for one in described(group)}
    return {name: value for name, value in values.items() if value is not None}


def as_words(args: Namespace) -> list[str]:
    """Return what `args` state of memory and engine as words of a command line; no switches."""
    words: list[str] = []
    for one in (*described(MemoryOptions), *described(EngineOptions)):
        value = getattr(args, one.name, None)
        if one.flag is not None and value is not None and one.kind is not bool:
            words += [one.flag, str(value)]
    return words


def tell_choice(engine: "Engine") -> None:
    """Print a line on stderr when something usual that was not stated had to give way."""
    from tonnage.cli.render.choice_words import given_up

    words = given_up(engine.choice)
    if words:
        print(f"tonnage: {words}", file=sys.stderr)


def on_load(status: StatusLine) -> Callable[[int, int], None]:
    """Return what shows a load on `status`."""
    return lambda done, total: status.show(f"loading {100 * done // max(total, 1)} %")
