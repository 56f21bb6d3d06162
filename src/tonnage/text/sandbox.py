"""Jinja with every step counted: what a hostile template can repeat or enlarge passes a check.

Jinja's own sandbox keeps a template away from Python's internals, but not from using up time or
memory. Here every loop, call, filter, operator and literal container is rewritten, or intercepted,
so that it draws from one allowance of time and so that no value outgrows a bound. A value is
measured as the characters and items that walking it would visit, so that sharing cannot hide size.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tonnage.core.errors import ChatTemplateError
from tonnage.text.allowance import Allowance, Exceeded
from tonnage.text.sandbox_functions import bounded_filters, bounded_globals

_MAX_INTEGER = 100_000  # as a width, a count or an exponent
_MAX_INTEGER_BITS = 4096
_FIELD = re.compile(r"\{[^{}]*:[^{}]*\d{5}|\{[^{}]*\{")
_WIDE_PERCENT = re.compile(r"%[^%a-zA-Z]*?(\d{5}|\*)")
# Filters that look at one item, whatever the size of the container.
_CHEAP_FILTERS = ("length", "count", "first", "last", "default", "d", "random")
# Functions that make something as large as a number says.
_WIDE = (
    "center", "ljust", "rjust", "zfill", "expandtabs", "indent", "wordwrap", "truncate", "batch",
    "slice", "to_bytes", "round",
)  # fmt: skip
# Functions whose result can be as large as two arguments multiplied.
_MULTIPLYING = ("replace", "join", "translate", "indent", "wordwrap", "expandtabs")
_CHECKED = "_checked"
_SPENT = "_spent"
_SLICED = "_sliced"
_LOOPED = "_looped"
_JOINED = "_joined"
_OPERATORS = frozenset(["+", "-", "*", "**", "%", "/", "//"])


class _Generation(Extension):
    """`{% generation %}` blocks mark answers for training; here they are just their content."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = _OPERATORS

    def __init__(self, allowance: Allowance) -> None:
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
        self.filters |= bounded_filters(allowance, self)
        for name in self.filters.keys() - set(_CHEAP_FILTERS):
            self.filters[name] = self._guarded(self.filters[name])
        for name, function in (
            (_CHECKED, allowance.checked), (_SPENT, allowance.spent), (_SLICED, allowance.sliced),
            (_LOOPED, allowance.looped), (_JOINED, allowance.joined),
        ):  # fmt: skip
            self.filters[name] = function
        self.globals |= bounded_globals()

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
        measure = self._allowance.measure
        values = [v for v in (*args, *kwargs.values()) if not isinstance(v, jinja2.Environment)]
        owner = getattr(function, "__self__", None)
        is_method = isinstance(owner, (str, bytes, int, float, list, tuple, dict))
        counts = values if is_method else values[1:]  # a filter's first is what it works on
        values += [owner] if is_method else []
        name = getattr(function, "__name__", "")
        if name == "do_format":
            self._check_percent(values[0])
        if any(word in name for word in _WIDE):
            for value in counts:
                if isinstance(value, int) and abs(value) > _MAX_INTEGER:
                    raise Exceeded(f"passes the number {value:.3g} to '{name}'")
        if any(word in name for word in _MULTIPLYING):
            sizes = [abs(v) if isinstance(v, int) else measure(v) for v in values]
            self._allowance.grow(_product_bound(sizes))
        self._allowance.grow(sum(map(measure, values)))

    def _check_percent(self, pattern: Any) -> None:
        if isinstance(pattern, (str, bytes)) and _WIDE_PERCENT.search(str(pattern)):
            raise Exceeded("formats to a width of five digits or more")

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        owner = getattr(value, "__self__", None)
        if isinstance(owner, str) and _FIELD.search(owner.replace("{{", "").replace("}}", "")):
            raise Exceeded("formats to a width of five digits or more")
        return super().wrap_str_format(value)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(__obj, jinja2.runtime.Macro):
            __self._check_arguments(__obj, args, kwargs)
        __self._allowance.spend()
        return __self._allowance.checked(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        a, b = self._allowance.measure(left), self._allowance.measure(right)
        if operator == "*":
            self._check_product(left, right)
        elif operator == "**":
            self._check_power(left, right)
        elif operator == "%" and isinstance(left, (str, bytes)):
            self._check_percent(left)
            self._allowance.grow(a + str(left).count("%") * b)
        self._allowance.grow(a + b)
        result = super().call_binop(context, operator, left, right)
        if operator == "+" and isinstance(result, (str, list, tuple)):
            self._allowance.keep(result, a + b)  # it is what its parts are
            return result
        return self._allowance.checked(result)

    def _check_power(self, base: Any, exponent: Any) -> None:
        if isinstance(base, int) and isinstance(exponent, int):
            bits = abs(base).bit_length() * abs(exponent)
            if bits > _MAX_INTEGER_BITS:
                raise Exceeded(f"raises to a power of {bits} bits")

    def _check_product(self, left: Any, right: Any) -> None:
        if isinstance(left, int) and isinstance(right, int):
            if left.bit_length() + right.bit_length() > _MAX_INTEGER_BITS:
                raise Exceeded("multiplies numbers of thousands of bits")
            return
        for one, other in ((left, right), (right, left)):
            if isinstance(other, int) and isinstance(one, (str, bytes, list, tuple)):
                self._allowance.grow(self._allowance.measure(one) * max(other, 0))


def _product_bound(sizes: list[int]) -> int:
    """Return the size that the two largest arguments can make together: each in place of each."""
    largest = sorted(sizes, reverse=True)[:2]
    return (largest[0] + 1) * (largest[1] + 1) if len(largest) == 2 else sum(largest)


def _rewrite(node: nodes.Node) -> nodes.Node:
    """Put checks round everything under a node that loops, joins or builds."""
    for name, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            setattr(node, name, _rewrite(value))
        elif isinstance(value, list):
            setattr(node, name, [_rewrite(v) if isinstance(v, nodes.Node) else v for v in value])
    if isinstance(node, nodes.For):
        node.iter = _filtered(node.iter, _LOOPED)
    elif isinstance(node, nodes.Concat):
        return _filtered(nodes.Tuple(node.nodes, "load", lineno=node.lineno), _JOINED)
    elif isinstance(node, nodes.Compare):
        node.expr = _read(node.expr)
        for operand in node.ops:
            operand.expr = _read(operand.expr)
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice):
        return _filtered(node, _SLICED)
    elif isinstance(node, (nodes.List, nodes.Dict)) or (
        isinstance(node, nodes.Tuple) and node.ctx == "load"
    ):
        return _filtered(node, _CHECKED)
    return node


def _read(node: nodes.Expr) -> nodes.Expr:
    """Count what a comparison reads."""
    return node if isinstance(node, nodes.Const) else _filtered(node, _SPENT)


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class Sandbox:
    """Compiles and renders templates; every failure is a ChatTemplateError."""

    def __init__(self, *, time_limit_s: float) -> None:
        """Give each compilation and each rendering this much time."""
        self._allowance = Allowance(time_limit_s)
        self._environment = _Environment(self._allowance)

    def compile(self, source: str) -> jinja2.Template:
        """Return the compiled template; raises ChatTemplateError."""
        self._allowance.restart({})
        try:
            tree = self._environment.parse(source)
            _rewrite(tree)
            code = self._environment.compile(tree)
            return jinja2.Template.from_code(
                self._environment, code, self._environment.make_globals(None)
            )
        except Exception as error:
            raise _explained(error) from None

    def tests_for_none(self, source: str, field: str) -> bool:
        """Whether a template that compiles asks if `field` of something `is none`."""
        tests = self._environment.parse(source).find_all(nodes.Test)
        return any(one.name == "none" and _field(one.node) == field for one in tests)

    def render(self, template: jinja2.Template, variables: Mapping[str, Any]) -> str:
        """Return the text of a template; raises ChatTemplateError."""
        self._allowance.restart(variables)
        pieces: list[str] = []
        total = 0
        try:
            for piece in template.generate(variables):
                total += len(piece)
                self._allowance.grow(total)
                pieces.append(piece)
        except Exception as error:
            raise _explained(error) from None
        finally:
            self._allowance.end()
        return "".join(pieces)


def _field(node: nodes.Node) -> str | None:
    """Return which field an expression reads, by a dot or in brackets."""
    if isinstance(node, nodes.Getattr):
        return node.attr
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        return str(node.arg.value)
    return None


def _explained(error: Exception) -> ChatTemplateError:
    if isinstance(error, Exceeded):
        return ChatTemplateError(f"The chat template {error}; it was stopped.")
    if isinstance(error, RecursionError):
        return ChatTemplateError("The chat template nests or calls itself too deeply.")
    if isinstance(error, jinja2.TemplateSyntaxError):
        return ChatTemplateError(
            f"The chat template is broken in line {error.lineno}: "
            f"{(error.message or '').rstrip('.')}."
        )
    words = str(error)[:500] or type(error).__name__
    if isinstance(error, jinja2.TemplateError):
        return ChatTemplateError(f"The chat template refuses the messages: {words}")
    return ChatTemplateError(f"The chat template fails: {type(error).__name__}: {words}")
