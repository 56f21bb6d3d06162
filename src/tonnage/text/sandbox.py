"""Jinja with every step counted: what a hostile template can repeat or enlarge passes a check.

Jinja's own sandbox keeps a template away from Python's internals, but not from using up time or
memory. Here every loop, call, filter, operator and literal container is rewritten, or intercepted,
so that it draws from one allowance of time and so that no value outgrows a bound. A value is
measured as the characters and items that walking it would visit, so that sharing cannot hide size.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tonnage.core.errors import ChatTemplateError
from tonnage.text.template_bounds import MAX_OUTPUT_CHARS

_MAX_RANGE = 10_000
_MAX_INTEGER = 100_000  # as a width, a count or an exponent
_MAX_INTEGER_BITS = 4096
_MAX_DEPTH = 64
_ITEM_CHARS = 16  # what an item of a container counts as
_WIDE_BRACES = re.compile(r"\d{5}|\{[^{}]*\{")
_WIDE_PERCENT = re.compile(r"%[^%a-zA-Z]*?(\d{5}|\*)")
# Nothing a chat needs, each with a cost that its arguments do not show.
_REMOVED_FILTERS = (
    "pprint", "urlize", "xmlattr", "filesizeformat", "random", "sum", "slice", "striptags",
)  # fmt: skip
# Filters that look at one item, whatever the size of the container.
_CHEAP_FILTERS = ("length", "count", "first", "last", "default", "d")
# Functions whose result can be as large as two arguments multiplied.
_MULTIPLYING = ("replace", "join", "translate", "indent", "wordwrap", "expandtabs")
_CHECKED = "_checked"
_LOOPED = "_looped"
_JOINED = "_joined"
_OPERATORS = frozenset(["+", "-", "*", "**", "%", "/", "//"])
_WRAPPED_NODES = (nodes.List, nodes.Tuple, nodes.Dict, nodes.Compare, nodes.Getitem)


class _Exceeded(Exception):
    """A bound was exceeded; not a jinja2 error, so that no template can handle it."""


class _Allowance:
    """Time and sizes one compilation or rendering may use."""

    def __init__(self, time_limit_s: float) -> None:
        self._time_limit_s = time_limit_s
        self._deadline = time.monotonic() + time_limit_s

    def restart(self) -> None:
        self._deadline = time.monotonic() + self._time_limit_s

    def tick(self) -> None:
        if time.monotonic() > self._deadline:
            raise _Exceeded(f"runs longer than {self._time_limit_s:g} s")

    def grow(self, size: int) -> None:
        self.tick()
        if size > MAX_OUTPUT_CHARS:
            raise _Exceeded(f"makes a value larger than {MAX_OUTPUT_CHARS} characters")

    def checked(self, value: Any) -> Any:
        self.grow(measure(value))
        return value

    def looped(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.tick()
            yield item

    def joined(self, parts: tuple[Any, ...]) -> str:
        self.grow(sum(measure(part) for part in parts))
        return "".join(map(str, parts))


def measure(value: Any, depth: int = 0) -> int:
    """Return the characters, items and digits in a value, stopping soon behind MAX_OUTPUT_CHARS."""
    if isinstance(value, (str, bytes)):
        return len(value)
    if isinstance(value, int):
        return 1 + value.bit_length() // 3
    if not isinstance(value, (list, tuple, dict, set, frozenset)):
        return 1
    if depth > _MAX_DEPTH:
        raise _Exceeded(f"nests values deeper than {_MAX_DEPTH}")
    total = len(value) * _ITEM_CHARS
    parts = value.items() if isinstance(value, dict) else value
    for part in parts:
        total += measure(part, depth + 1)
        if total > MAX_OUTPUT_CHARS:
            break
    return total


class _Generation(Extension):
    """`{% generation %}` blocks mark answers for training; here they are just their content."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = _OPERATORS

    def __init__(self, allowance: _Allowance) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, _Generation],
            finalize=allowance.checked,
            # Nothing is computed while compiling.
            optimized=False,
            cache_size=0,
        )
        self._allowance = allowance
        for name in ("lipsum", "cycler", "joiner"):
            del self.globals[name]
        for name in _REMOVED_FILTERS:
            del self.filters[name]
        self.filters["tojson"] = _to_json
        for name in self.filters.keys() - set(_CHEAP_FILTERS):
            self.filters[name] = self._guarded(self.filters[name])
        self.filters[_CHECKED] = allowance.checked
        self.filters[_LOOPED] = allowance.looped
        self.filters[_JOINED] = allowance.joined
        self.globals["range"] = _range
        self.globals["raise_exception"] = _raise_exception

    def _guarded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self._check_arguments(function, args, kwargs)
            result = function(*args, **kwargs)
            if isinstance(result, Iterator):
                result = list(self._allowance.looped(result))
            return self._allowance.checked(result)

        return guarded

    def _check_arguments(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Refuse what could be large before it is computed."""
        values = [v for v in (*args, *kwargs.values()) if not isinstance(v, jinja2.Environment)]
        owner = getattr(function, "__self__", None)
        values += [owner] if isinstance(owner, (str, bytes, list, tuple, dict)) else []
        name = getattr(function, "__name__", "")
        if name == "do_format":
            self._check_percent(values[0])
        for value in values:
            if isinstance(value, int) and abs(value) > _MAX_INTEGER and name != "_to_json":
                raise _Exceeded(f"passes the number {value:.3g} to '{name}'")
        if any(word in name for word in _MULTIPLYING):
            sizes = [abs(v) if isinstance(v, int) else measure(v) for v in values]
            self._allowance.grow(_product_bound(sizes))
        self._allowance.grow(sum(measure(value) for value in values))

    def _check_percent(self, pattern: Any) -> None:
        if isinstance(pattern, (str, bytes)) and _WIDE_PERCENT.search(str(pattern)):
            raise _Exceeded("formats to a width of five digits or more")

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        owner = getattr(value, "__self__", None)
        if isinstance(owner, str) and _WIDE_BRACES.search(owner):
            raise _Exceeded("formats to a width of five digits or more")
        return super().wrap_str_format(value)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(__obj, jinja2.runtime.Macro):
            __self._check_arguments(__obj, args, kwargs)
        __self._allowance.tick()
        return __self._allowance.checked(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        a, b = measure(left), measure(right)
        if operator == "*":
            _check_product(self._allowance, left, right)
        elif operator == "**":
            self._check_power(left, right)
        elif operator == "%" and isinstance(left, (str, bytes)):
            self._check_percent(left)
            self._allowance.grow(a + str(left).count("%") * b)
        self._allowance.grow(a + b)
        return self._allowance.checked(super().call_binop(context, operator, left, right))

    def _check_power(self, base: Any, exponent: Any) -> None:
        if isinstance(base, int) and isinstance(exponent, int):
            bits = abs(base).bit_length() * abs(exponent)
            if bits > _MAX_INTEGER_BITS:
                raise _Exceeded(f"raises to a power of {bits} bits")


def _check_product(allowance: _Allowance, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        if left.bit_length() + right.bit_length() > _MAX_INTEGER_BITS:
            raise _Exceeded("multiplies numbers of thousands of bits")
        return
    for one, other in ((left, right), (right, left)):
        if isinstance(other, int) and isinstance(one, (str, bytes, list, tuple)):
            allowance.grow(measure(one) * max(other, 0))


def _product_bound(sizes: list[int]) -> int:
    """Return the size that the two largest arguments can make together: each in place of each."""
    largest = sorted(sizes, reverse=True)[:2]
    return (largest[0] + 1) * (largest[1] + 1) if len(largest) == 2 else sum(largest)


def _range(*bounds: int) -> range:
    result = range(*bounds)
    if len(result) > _MAX_RANGE:
        raise _Exceeded(f"makes a range of more than {_MAX_RANGE}")
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
        raise _Exceeded(f"indents by {indent:.3g}")
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _rewrite(node: nodes.Node) -> nodes.Node:
    """Put checks round everything under a node that loops, joins or builds."""
    for name, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            setattr(node, name, _rewrite(value))
        elif isinstance(value, list):
            setattr(node, name, [_rewrite(v) if isinstance(v, nodes.Node) else v for v in value])
    if isinstance(node, nodes.For):
        node.iter = nodes.Filter(node.iter, _LOOPED, [], [], None, None, lineno=node.lineno)
    elif isinstance(node, nodes.Concat):
        parts = nodes.Tuple(node.nodes, "load", lineno=node.lineno)
        return _filtered(parts, _JOINED)
    elif isinstance(node, nodes.Expr) and isinstance(node, _WRAPPED_NODES):
        return node if getattr(node, "ctx", "load") != "load" else _filtered(node, _CHECKED)
    return node


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class Sandbox:
    """Compiles and renders templates; every failure is a ChatTemplateError."""

    def __init__(self, *, time_limit_s: float) -> None:
        """Give each compilation and each rendering this much time."""
        self._allowance = _Allowance(time_limit_s)
        self._environment = _Environment(self._allowance)

    def compile(self, source: str) -> jinja2.Template:
        """Return the compiled template; raises ChatTemplateError."""
        self._allowance.restart()
        try:
            tree = self._environment.parse(source)
            _rewrite(tree)
            code = self._environment.compile(tree)
            return jinja2.Template.from_code(
                self._environment, code, self._environment.make_globals(None)
            )
        except Exception as error:
            raise _explained(error) from None

    def render(self, template: jinja2.Template, variables: Mapping[str, Any]) -> str:
        """Return the text of a template; raises ChatTemplateError."""
        self._allowance.restart()
        pieces: list[str] = []
        total = 0
        try:
            for piece in template.generate(variables):
                total += len(piece)
                self._allowance.grow(total)
                pieces.append(piece)
        except Exception as error:
            raise _explained(error) from None
        return "".join(pieces)


def _explained(error: Exception) -> ChatTemplateError:
    if isinstance(error, _Exceeded):
        return ChatTemplateError(f"The chat template {error}; it was stopped.")
    if isinstance(error, RecursionError):
        return ChatTemplateError("The chat template nests or calls itself too deeply.")
    if isinstance(error, jinja2.TemplateSyntaxError):
        return ChatTemplateError(
            f"The chat template is broken in line {error.lineno}: {error.message}."
        )
    words = str(error)[:500] or type(error).__name__
    if isinstance(error, jinja2.TemplateError):
        return ChatTemplateError(f"The chat template refuses the messages: {words}")
    return ChatTemplateError(f"The chat template fails: {type(error).__name__}: {words}")
