"""`from tonnage import ...`: at once for type checkers, late for the program."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import tonnage

SOURCE = ast.parse(Path(tonnage.__file__).read_text("utf-8"))


def imports_for_type_checkers() -> dict[str, str]:
    guarded = next(node for node in SOURCE.body if isinstance(node, ast.If))
    return {
        alias.name: node.module or ""
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_type_checkers_see_what_the_program_finds():
    found = imports_for_type_checkers()
    assert set(dir(tonnage)) == {*found, "__version__"}
    for name, module in found.items():
        assert getattr(tonnage, name) is getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", sorted(imports_for_type_checkers()))
def test_every_public_class_and_function_says_what_it_is(name):
    value = getattr(tonnage, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Engin'"):
        tonnage.Engin  # noqa: B018


def test_importing_the_package_imports_next_to_nothing():
    program = "import sys, tonnage; print(*(m for m in sys.modules if m.startswith('tonnage')))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == {"tonnage", "tonnage.core", "tonnage.core.version"}


def test_the_engine_is_still_found_where_it_was():
    with pytest.warns(DeprecationWarning, match="imported from tonnage now"):
        from tonnage.engine import Engine as former
    assert issubclass(tonnage.Engine, former)
