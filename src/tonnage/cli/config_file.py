"""A file of options for `tonnage serve`: TOML with the names that the options have in Python."""

import tomllib
from argparse import Namespace
from pathlib import Path
from typing import Any

from tonnage.core.errors import RequestError
from tonnage.core.nearest import did_you_mean
from tonnage.core.options import Described, check_types, described
from tonnage.engine.options import MemoryOptions


def fill_from(path: Path, args: Namespace) -> None:
    """Take every option that `args` do not state from the file at `path`.

    `models` lists models by name or path. Paths are relative to the file's folder. Raises
    RequestError for a file that cannot be read, an unknown name, and a value of another type.
    """
    stated = _read(path)
    models = stated.pop("models", [])
    if not isinstance(models, list) or not all(isinstance(one, str) for one in models):
        raise RequestError(f"{path}: models is a list of names or paths, such as ['smollm2-135m'].")
    groups = _groups()
    options = {one.name: one for group in groups for one in described(group)}
    for name in stated:
        if name not in options:
            raise RequestError(
                f"{path} has no option {name!r}{did_you_mean(name, [*options, 'models'])}"
            )
    for group in groups:
        check_types(group, stated.get)
    if args.model is None and not args.models:
        args.models = [_found(path, one) for one in models]
    for name, value in stated.items():
        if getattr(args, name, None) in (None, False):
            setattr(args, name, _value(path, options[name], value))


def _groups() -> tuple[type, ...]:
    from tonnage.server.options import LogOptions, ServeOptions

    return MemoryOptions, LogOptions, ServeOptions


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path} cannot be read ({error}).") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not valid TOML ({error}).") from None


def _value(path: Path, one: Described, value: Any) -> Any:
    if one.choices and value not in one.choices:
        raise RequestError(f"{path}: {one.name} is {value!r}; it takes {', '.join(one.choices)}.")
    if one.kind is Path:
        return path.parent / value
    return [value] if one.repeated and isinstance(value, str) else value


def _found(path: Path, model: str) -> str:
    """Return a model's name as it is, and a path to a file beside the file of options."""
    beside = path.parent / model
    return (
        str(beside) if "/" in model and not model.startswith("hf:") and beside.exists() else model
    )
