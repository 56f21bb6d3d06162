"""The import rules, on small trees and on this one."""

from pathlib import Path

import pytest

from tools.check_imports import LATE, TABLE, main, package_of, uses_of, violations

ROOT = Path(__file__).parents[2]


def complaints(tmp_path: Path, module: str, source: str) -> list[str]:
    path = tmp_path / "src" / "tonnage" / module
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    return [line.removeprefix("src/tonnage/") for line in violations(tmp_path)]


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        (
            "core/a.py",
            "from tonnage.planner.search.choose import x",
            "core imports tonnage.planner.search.choose.x",
        ),
        ("core/a.py", "import time", "core may never use time"),
        ("core/a.py", "import os\nx = os.environ", "core may never use os.environ"),
        ("core/a.py", "from os import environ", "core may never use os.environ"),
        ("planner/a.py", "from tonnage.formats.gguf import x", "planner imports tonnage.formats"),
        ("planner/a.py", "from tonnage import _native", "planner imports tonnage._native"),
        (
            "planner/a.py",
            "from tonnage.backends.cpu.layout.sizes import x",
            "planner imports tonnage.backends.cpu.layout.sizes.x",
        ),
        ("planner/a.py", "import os.path", "planner may never use os.path"),
        ("planner/a.py", "def f():\n    open('x')", "planner may never use open"),
        ("kvcache/a.py", "from tonnage import models", "kvcache imports tonnage.models"),
        ("kvcache/a.py", "import tonnage.text.stream", "kvcache imports tonnage.text.stream"),
        ("text/a.py", "from ..core import errors, os\nfrom ..models import x", "text imports"),
        ("text/a.py", "import jinja2", "jinja2 is imported at the top"),
        ("text/a.py", "def f():\n    import numpy", "text imports numpy"),
        ("engine/a.py", "from tonnage.cli import x", "engine imports tonnage.cli.x"),
        ("engine/a.py", "from tonnage.formats.codec import x", "imported at the top"),
        (
            "cli.py",
            "from tonnage.backends.cpu.runtime import Runtime",
            "cli imports tonnage.backends.cpu",
        ),
        ("novel/a.py", "", "the package novel is not in the table"),
        ("novel.py", "", "the package novel is not in the table"),
        ("__init__.py", "from tonnage.kvcache import x", "tonnage imports tonnage.kvcache.x"),
    ],
)
def test_breaches_are_named(tmp_path: Path, module: str, source: str, expected: str) -> None:
    (found,) = complaints(tmp_path, module, source)
    assert found.startswith(module)
    assert expected in found


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    from tonnage.planner.search.choose import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tonnage.planner import x",
        "import importlib\nimportlib.import_module('tonnage.planner.search.choose')",
        "__import__('tonnage.planner')",
        "try:\n    import tonnage.planner\nexcept ImportError:\n    pass",
        "class A:\n    async def f(self):\n        from ..planner.plan import x",
    ],
)
def test_hidden_imports_count(tmp_path: Path, source: str) -> None:
    (found,) = complaints(tmp_path, "kvcache/a.py", source)
    assert "kvcache imports tonnage.planner" in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core/a.py", "import json, math, os\nx = os.urandom(8)\nself.time = clock.time"),
        ("planner/a.py", "from tonnage.core.plan import Plan\nfrom tonnage.planner import b"),
        ("planner/a.py", "file.open('x')"),
        ("formats/a.py", "from tonnage import _native\ndef f():\n    import numpy as np"),
        ("formats/codec.py", "import numpy as np\nfrom tonnage.formats import block_decode"),
        ("quality/rows.py", "import numpy as np\nfrom tonnage.engine import x"),
        ("text/sandbox.py", "from jinja2.sandbox import SandboxedEnvironment"),
        ("text/a.py", "def f():\n    from tonnage.text.sandbox import Template\n    import jinja2"),
        ("formats/a.py", "if TYPE_CHECKING:\n    from typing_extensions import Buffer"),
        ("cli.py", "import tonnage\nfrom tonnage import __version__, engine"),
        ("engine/a.py", "def f():\n    from tonnage.formats.codec import x"),
    ],
)
def test_what_the_table_allows(tmp_path: Path, module: str, source: str) -> None:
    assert complaints(tmp_path, module, source) == []


def test_lines_and_places_of_uses() -> None:
    source = "import a\ndef f():\n    from .. import b\nif TYPE_CHECKING:\n    import c\nc.d"
    uses = uses_of(source, ["tonnage", "core"])
    assert [(use.name, use.line) for use in uses] == [
        ("a", 1), ("tonnage.b", 3), ("c", 5), ("c.d", 6),
    ]  # fmt: skip
    assert [use.in_function for use in uses] == [False, True, False, False]
    assert [use.for_typing for use in uses] == [False, False, True, False]
    assert [use.imported for use in uses] == [True, True, True, False]


def test_packages_of_paths() -> None:
    assert package_of(("engine.py",)) == "engine"
    assert package_of(("backends", "cpu", "runtime.py")) == "backends.cpu"
    assert package_of(("backends", "protocol.py")) == "backends"
    assert package_of(("__init__.py",)) == "tonnage"
    assert package_of(("__main__.py",)) == "cli"
    assert package_of(("models", "families", "llama.py")) == "models"


def test_the_table_names_only_known_packages() -> None:
    for package, rules in TABLE.items():
        assert rules.others <= TABLE.keys() | {"_native"}, package
        assert package not in rules.others


def test_circles_are_named(tmp_path: Path) -> None:
    complaints(tmp_path, "core/a.py", "from tonnage.core.b import x")
    (found,) = complaints(tmp_path, "core/b.py", "def f():\n    from tonnage.core import a")
    assert found.startswith("a circle of imports: ")
    assert "tonnage.core.a -> tonnage.core.b" in found
    assert all(name.split(".")[1] in TABLE for name in LATE)


@pytest.mark.parametrize(
    "source",
    [
        "from tonnage.core.rope import RopeSpec",
        "def f():\n    import tonnage",
        "from support.driver import open_runtime",
        "import importlib\nimportlib.import_module('tonnage.core.plan')",
        "from ..support import pages",
    ],
)
def test_oracles_import_nothing_of_the_product(tmp_path: Path, source: str) -> None:
    path = tmp_path / "tests" / "oracles" / "model.py"
    path.parent.mkdir(parents=True)
    path.write_text("import math\nimport numpy as np\nfrom oracles.rope import x\n")
    assert list(violations(tmp_path)) == []
    path.write_text(source)
    (found,) = violations(tmp_path)
    assert found.startswith("tests/oracles/model.py:")
    assert "an oracle imports" in found


def test_there_are_oracles() -> None:
    assert {path.stem for path in (ROOT / "tests" / "oracles").glob("*.py")} >= {
        "rope", "rounding", "transformer",
    }  # fmt: skip


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(ROOT)]) == 0
    assert "no violation" in capsys.readouterr().out
    complaints(tmp_path, "core/a.py", "x = 1\nimport numpy")
    assert main([str(tmp_path)]) == 1
    assert "src/tonnage/core/a.py:2: core imports numpy" in capsys.readouterr().out
