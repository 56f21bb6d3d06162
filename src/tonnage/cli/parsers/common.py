"""Options of a command line that several commands have, as their groups describe them."""

from argparse import SUPPRESS, ArgumentParser
from collections.abc import Callable, Sequence
from typing import Any

from tonnage.core.options import Described, as_flag, described
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.options import EngineOptions, MemoryOptions

MODEL_HELP = (
    "a name of the catalog (see `tonnage list`), a GGUF file, a folder of Hugging Face, or "
    "hf:owner/name[/file]"
)


def add_options(
    add: Callable[..., object], group: type, without: Sequence[str] = (), **defaults: object
) -> None:
    """Add the options of a group, for the command line only those that have a flag there.

    without: names of those that the command does not have. defaults: of this command alone.
    """
    for one in described(group):
        if one.flag is not None and one.name not in without:
            own = one.with_default(defaults[one.name]) if one.name in defaults else one
            add_option(add, own, defaults.get(one.name))


def add_option(add: Callable[..., object], one: Described, default: object) -> None:
    """Add an option, and its former flags, which no help shows."""
    how: dict[str, Any] = {"dest": one.name, "default": default}
    if one.kind is bool:
        how |= {"action": "store_true", "default": False}
    else:
        how |= {"type": one.kind, "metavar": one.option.unit or None}
    if one.choices:
        how["choices"] = one.choices
    if one.option.alone:
        how |= {"nargs": "?", "const": one.option.alone}
    if one.repeated:
        how["action"] = "append"
    add(one.flag, help=one.help.replace("%", "%%"), **how)
    for former in one.option.former:
        add(as_flag(former), help=SUPPRESS, **{**how, "default": SUPPRESS})


def add_engine(parser: ArgumentParser, without: Sequence[str] = (), **defaults: object) -> None:
    """Add what every command that plans or opens a model takes."""
    add_options(parser.add_argument, MemoryOptions)
    add_options(parser.add_argument, EngineOptions, ("catalog", *without), **defaults)


def add_model(parser: ArgumentParser) -> None:
    """Add the model, which may be left out."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help=f"{MODEL_HELP}; the catalog's default if left out",
    )


def add_sampling(parser: ArgumentParser) -> None:
    """Add the options of sampling, in a group of their own."""
    group = parser.add_argument_group("how tokens are sampled")
    add_options(group.add_argument, SamplingOptions)
