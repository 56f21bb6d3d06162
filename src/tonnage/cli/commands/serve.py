"""`tonnage serve`: models behind OpenAI's and Anthropic's interfaces."""

import signal
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING

from tonnage.cli.opening import on_load, stated
from tonnage.cli.render.model_set_table import model_set_json, placement_lines, render_model_set
from tonnage.cli.render.terminal import PullProgress, StatusLine
from tonnage.core.errors import RequestError
from tonnage.core.options import check_ranges, filled
from tonnage.machine.memory_use import anonymous_bytes

if TYPE_CHECKING:
    from tonnage.core.plan import Plan
    from tonnage.planner.search.choose import PlanChoice
    from tonnage.server.start import PlannedServer


def serve(args: Namespace) -> int:
    """Serve until a signal ends it, or say with --plan what would be; return the exit code."""
    from tonnage.server.start import load_server

    if args.config is not None:
        from tonnage.cli.config_file import fill_from

        fill_from(args.config, args)
    if args.json and not args.plan:
        raise RequestError("--json goes with --plan: a server has nothing else to print.")
    if not args.plan:
        # It waits until the server listens, which takes it then.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    log_bytes = _start_log(args)
    planned = _planned(args)
    models = planned.models
    if args.plan:
        print(model_set_json(models) if args.json else render_model_set(models))
        return 0
    if len(models.models) > 1:
        for line in placement_lines(models):
            _inform(line)
    status = StatusLine(sys.stderr)
    try:
        loaded = load_server(planned, on_load(status), log_bytes=log_bytes)
    finally:
        status.close()
    return loaded.run()


def _planned(args: Namespace) -> "PlannedServer":
    from tonnage.server.options import ServeOptions
    from tonnage.server.start import Observers, plan_server

    options: ServeOptions = stated(ServeOptions, args)
    check_ranges(ServeOptions, options.get, flags=True)
    names = [*([args.model] if args.model is not None else []), *args.models]
    log_choice = _log_choice(several=len(names) > 1)
    observers = Observers(progress=PullProgress(sys.stderr), on_choice=log_choice)
    return plan_server(names, args.memory, observers, **options)


def _start_log(args: Namespace) -> int:
    """Have log lines written as the options say; return the bytes that this takes."""
    before = anonymous_bytes()
    from tonnage.server.observe.log import configure
    from tonnage.server.options import LogOptions

    options: LogOptions = filled(LogOptions, stated(LogOptions, args))
    configure("debug" if args.debug else options["log_level"], options["log_format"])
    return anonymous_bytes() - before


def _inform(line: str) -> None:
    import logging

    logging.getLogger("tonnage.serve").info("%s", line)


def _warn(line: str) -> None:
    import logging

    logging.getLogger("tonnage.serve").warning("%s", line)


def _log_choice(*, several: bool) -> "Callable[[str, PlanChoice], None]":
    """Return what logs when something usual that was not stated had to give way."""
    from tonnage.cli.render.choice_words import given_up

    def log(name: str, choice: "PlanChoice") -> None:
        words = given_up(choice)
        if words:
            _warn(f"{f'{name}: ' if several else ''}{words}")
        if not several:
            _log_pages(choice.plan)

    return log


def _log_pages(plan: "Plan") -> None:
    """Say that sequences share pages where not all of them could have a full context at once."""
    tokens = plan.kv.groups[0].num_pages * plan.kv.page_tokens
    if tokens < plan.concurrency * plan.context_tokens:
        _inform(
            f"{plan.concurrency} sequences at once share pages of {tokens:,} tokens; each may take "
            f"{plan.context_tokens:,} of them."
        )
