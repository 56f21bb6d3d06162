"""src/tonnage/_native.pyi says what the native module really has: names, parameters and types."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tonnage import _native

STUB = ast.parse((Path(__file__).parents[2] / "src/tonnage/_native.pyi").read_text("utf-8"))
ALIASES = {
    node.targets[0].id: node.value
    for node in STUB.body
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
}
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
FUNCTIONS = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}
# The module's words for what the stub says more exactly, or by a type of Python that is as good.
LOOSE = {"object", "list", "dict", "tuple"}
SAME = {"Sequence": "list", "Mapping": "dict"}


class _Plain(ast.NodeTransformer):
    """Writes a type without modules and aliases."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return self.visit(ast.Name(node.attr))

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in ALIASES:
            return self.visit(ALIASES[node.id])
        return ast.Name(SAME.get(node.id, node.id))


def plain(annotation: ast.expr | None) -> str:
    return "" if annotation is None else ast.unparse(_Plain().visit(annotation))


def assert_type(real: ast.expr | None, stated: ast.expr | None, where: str) -> None:
    if plain(real) not in LOOSE:
        assert plain(stated) == plain(real), where


def signature(member: Any) -> tuple[ast.FunctionDef, tuple[Any, ...]]:
    """The only signature of what nanobind bound, and its defaults in order."""
    ((text, _, defaults),) = member.__nb_signature__
    text = text.replace("def (", "def f(")
    for index in range(len(defaults or ())):
        text = text.replace(f"\\{index}", f"DEFAULT_{index}", 1)
    (node,) = ast.parse(text + ": ...").body
    assert isinstance(node, ast.FunctionDef)
    return node, tuple(defaults or ())


def parameters(
    node: ast.FunctionDef,
) -> Iterator[tuple[str, bool, ast.expr | None, ast.expr | None]]:
    """Yield (name, keyword only, type, default) of each parameter but self."""
    positional = node.args.args
    padding = [None] * (len(positional) - len(node.args.defaults))
    for one, default in zip(positional, [*padding, *node.args.defaults], strict=True):
        if one.arg != "self":
            yield one.arg, False, one.annotation, default
    for one, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        yield one.arg, True, one.annotation, default


def assert_same(real: Any, stated: ast.FunctionDef, where: str) -> None:
    bound, defaults = signature(real)
    assert_type(bound.returns, stated.returns, f"{where}: what it returns")
    if bound.args.kwarg is not None:
        return
    ours, theirs = list(parameters(stated)), list(parameters(bound))
    assert [one[:2] for one in ours] == [one[:2] for one in theirs], where
    values = iter(defaults)
    for (name, _, annotation, default), (_, _, real_type, real_default) in zip(
        ours, theirs, strict=True
    ):
        assert_type(real_type, annotation, f"{where}: {name}")
        assert (default is None) == (real_default is None), f"{where}: the default of {name}"
        if default is not None:
            assert ast.literal_eval(default) == next(values), f"{where}: the default of {name}"


def public(thing: object) -> set[str]:
    return {name for name in vars(thing) if not name.startswith("_")}


def test_the_module_has_the_names_of_the_stub() -> None:
    assert public(_native) == set(CLASSES) | set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function(name: str) -> None:
    assert_same(getattr(_native, name), FUNCTIONS[name], name)


@pytest.mark.parametrize("name", CLASSES)
def test_a_class(name: str) -> None:
    real, members = getattr(_native, name), CLASSES[name].body
    assert [base.__name__ for base in real.__bases__ if base is not object] == [
        ast.unparse(base) for base in CLASSES[name].bases
    ]
    stated: dict[str, ast.AnnAssign | ast.FunctionDef] = {}
    for member in members:
        if isinstance(member, ast.FunctionDef):
            stated[member.name] = member
        elif isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
            stated[member.target.id] = member
    assert public(real) == set(stated) - {"__init__"}
    for key, member in stated.items():
        own = inspect.getattr_static(real, key)
        if isinstance(member, ast.AnnAssign):
            assert own.fset is not None, key
            assert_type(signature(own.fget)[0].returns, member.annotation, f"{name}.{key}")
        elif any(ast.unparse(one) == "property" for one in member.decorator_list):
            assert own.fset is None, key
            assert_same(own.fget, member, f"{name}.{key}")
        else:
            assert_same(own, member, f"{name}.{key}")


def test_every_option_of_the_tokenizer_is_known_and_has_its_default() -> None:
    """Its constructor takes keywords that nanobind does not list."""
    (made,) = (
        one for one in CLASSES["TokenizerCore"].body if getattr(one, "name", "") == "__init__"
    )
    assert isinstance(made, ast.FunctionDef)
    options = {
        name: ast.literal_eval(default) for name, _, _, default in parameters(made) if default
    }
    assert len(options) == 12
    for name, value in options.items():
        _native.TokenizerCore(**{name: value})
    with pytest.raises(TypeError, match="no tokenizer option"):
        _native.TokenizerCore(**{"no_option": 1})
