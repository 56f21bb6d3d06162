"""Options of a command line that several commands have, as their groups describe them."""

import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Sequence
from typing import Any

from tonnage.core.errors import UnitError
from tonnage.core.options import Described, as_flag, described
from tonnage.core.sampling import SamplingOptions
from tonnage.core.units import decimal_note, parse_count
from tonnage.engine.options import EngineOptions, MemoryOptions

MODEL_HELP = (
    "a name of the catalog (see `tonnage list`), a GGUF file, a folder of Hugging Face, "
    "owner/name[:Q4_K_M] of the Hugging Face Hub, or the address of a GGUF file"
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
    """Add an option, and its former flags and those of other programs, which no help shows.

    A letter of another program is shown.
    """
    how: dict[str, Any] = {"dest": one.name, "default": default}
    if one.kind is bool:
        how |= {"action": "store_true", "default": False}
    else:
        how |= {"type": _reader(one), "metavar": one.option.unit or None}
    if one.choices:
        how["choices"] = one.choices
    if one.option.alone:
        how |= {"nargs": "?", "const": one.option.alone}
    if one.repeated:
        how["action"] = "append"
    letters = [flag for flag in one.option.also if len(flag) == 2]
    add(one.flag, *letters, help=one.help.replace("%", "%%"), **how)
    unseen = [*map(as_flag, one.option.former), *one.option.also]
    for flag in unseen:
        if flag not in letters:
            add(flag, help=SUPPRESS, **{**how, "default": SUPPRESS})


def _reader(one: Described) -> Callable[[str], object]:
    """Return what reads the value of an option."""
    if one.option.counts:
        return _count
    return size if one.option.unit == "BYTES" else one.kind


def _count(text: str) -> int:
    try:
        # Numbers below 0 are refused with the range of the option.
        return int(text) if text[:1] == "-" and text[1:].isdecimal() else parse_count(text)
    except UnitError as error:
        raise ArgumentTypeError(str(error)) from None


def size(text: str) -> str:
    """Return a number of bytes as it was written; one in powers of ten is told to the user."""
    note = decimal_note(text)
    if note is not None:
        print(f"tonnage: {note}", file=sys.stderr)
    return text


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
    add_named(parser, "model", "--model", "-m")


def add_named(parser: ArgumentParser, name: str, *flags: str) -> None:
    """Add flags for what may also stand without one; `tonnage.cli.arguments` puts it there."""
    parser.add_argument(
        *flags, dest=f"{name}_by_name", metavar=name.upper(), default=None, help=f"the same {name}"
    )


def add_sampling(parser: ArgumentParser) -> None:
    """Add the options of sampling, in a group of their own."""
    group = parser.add_argument_group("how tokens are sampled")
    add_options(group.add_argument, SamplingOptions)
