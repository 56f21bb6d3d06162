"""Filters and globals of Jinja whose cost their arguments do not show, with bounds.

What they return is Jinja's own, or that of transformers' chat templates where these differ.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from jinja2.filters import FILTERS, make_attrgetter
from jinja2.utils import generate_lorem_ipsum

from tonnage.text.allowance import Allowance, Exceeded

_MAX_RANGE = 100_000
_MAX_PRETTY = 1 << 15  # these work in ways that no check interrupts
_MAX_LINKED = 1 << 14
_MAX_STRIPPED = 1 << 29
_MAX_WORDS = 10_000


def bounded_filters(
    allowance: Allowance, environment: jinja2.Environment
) -> Mapping[str, Callable[..., Any]]:
    """Return filters by name, for one environment."""

    def total(items: Any, attribute: str | int | None = None, start: Any = 0) -> Any:
        result = sum((), start)  # refuses a text as Python does
        get = make_attrgetter(environment, attribute)
        for item in items if attribute is None else map(get, items):
            allowance.grow(allowance.measure(result) + allowance.measure(item))
            result = result + item
        return result

    def small(name: str, most: int) -> Callable[..., Any]:
        def bounded(first: Any, *args: Any, **kwargs: Any) -> Any:
            # Some take the evaluation context or the environment first.
            value = args[0] if hasattr(function, "jinja_pass_arg") else first
            if (size := allowance.measure(value)) > most:
                raise Exceeded(f"passes {size} characters to '{name}'")
            return function(first, *args, **kwargs)

        function = FILTERS[name]
        if hasattr(function, "jinja_pass_arg"):
            bounded.jinja_pass_arg = function.jinja_pass_arg  # type: ignore[attr-defined]
        return bounded

    return {
        "sum": total,
        "pprint": small("pprint", _MAX_PRETTY),
        "urlize": small("urlize", _MAX_LINKED),
        "striptags": _strip_tags,
        "tojson": _to_json,
    }


def bounded_globals() -> Mapping[str, Callable[..., Any]]:
    """Return globals by name."""
    return {"range": _range, "raise_exception": _raise_exception, "lipsum": _lorem}


def _strip_tags(value: Any) -> str:
    text = str(value.__html__() if hasattr(value, "__html__") else value)
    if text.count("<") * len(text) > _MAX_STRIPPED:
        raise Exceeded(f"strips tags from {len(text)} characters")
    return str(FILTERS["striptags"](text))


def _lorem(n: int = 5, html: bool = True, min: int = 20, max: int = 100) -> str:  # noqa: FBT001, FBT002
    if n * max > _MAX_WORDS:
        raise Exceeded(f"makes {n * max} words")
    return generate_lorem_ipsum(n, html, min, max)


def _range(*bounds: int) -> range:
    result = range(*bounds)
    if len(result) > _MAX_RANGE:
        raise Exceeded(f"makes a range of more than {_MAX_RANGE}")
    return result


def _raise_exception(message: object) -> None:
    raise jinja2.TemplateError(str(message))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    if isinstance(indent, int) and not 0 <= indent <= 16:
        raise Exceeded(f"indents by {indent:.3g}")
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
