"""Enforce which package of src/tonnage may import what, and that no modules form a circle.

The oracles under tests, from which expected values come, may import numpy and each other alone.

Imports inside functions and under TYPE_CHECKING count, and so do importlib.import_module and
__import__ with a literal name. Exit code 1 and one line per violation.
Run: python tools/check_imports.py [REPOSITORY]
"""

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

NATIVE = "_native"


@dataclass(frozen=True, slots=True)
class Package:
    """What one package may import.

    others: packages of ours (itself is always allowed). third_party: late only: inside a function
    or in a module of LATE. never: dotted names of the standard library that it may neither import
    nor use, and builtins that it may not call.
    """

    others: frozenset[str] = frozenset()
    third_party: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A pure package computes the same from the same arguments: no environment, clock, files or logging.
_CLOCK = _names("time datetime")
_OUTSIDE = _CLOCK | _names(
    "os sys io pathlib logging random secrets subprocess socket tempfile open"
)

TABLE: dict[str, Package] = {
    # core has os.urandom for a fresh seed, hence not the whole of os.
    "core": Package(never=_CLOCK | _names("os.environ os.getenv logging")),
    # The native module scans strings of a header; numpy serves the reference codec alone.
    "formats": Package(_names("core _native"), third_party=_names("numpy")),
    "blocks": Package(_names("core"), never=_OUTSIDE),
    "models": Package(_names("blocks core formats")),
    "store": Package(_names("core formats _native"), third_party=_names("huggingface_hub")),
    # It times the CPU's kernels, so it makes matrices and pages of their sizes.
    "machine": Package(_names("backends.cpu.layout core _native")),
    "planner": Package(_names("blocks core"), never=_OUTSIDE),
    # Samplers are native objects whatever computes the logits.
    "backends": Package(_names("core _native")),
    # Numpy decodes what calibration watches.
    "backends.cpu": Package(
        _names("backends backends.cpu.layout core _native"), third_party=_names("numpy")
    ),
    "backends.cpu.layout": Package(_names("blocks core"), never=_OUTSIDE),
    "backends.reference": Package(
        _names("backends blocks core formats _native"), third_party=_names("numpy")
    ),
    # The identity of pages contains the digest of the native code.
    "kvcache": Package(_names("core _native")),
    "scheduler": Package(_names("core kvcache"), never=_CLOCK),
    "speculation": Package(_names("core"), never=_OUTSIDE),
    "text": Package(_names("core _native"), third_party=_names("jinja2")),
    "engine": Package(
        _names(
            "backends backends.cpu backends.cpu.layout core formats kvcache machine models planner "
            "scheduler speculation store text _native"
        )
    ),
    # Numpy goes over rows of logits: a pair of 262k takes 2.4 ms, in plain Python 33 ms.
    "quality": Package(
        _names("core engine models planner store text _native"), third_party=_names("numpy")
    ),
    "packing": Package(
        _names("blocks core engine formats models planner quality store text _native"),
        third_party=_names("numpy"),
    ),
    "batch": Package(_names("core engine")),
    "benchmark": Package(_names("core engine machine planner")),
    # Reads requests into msgspec's structures; uvicorn speaks HTTP; traces are an extra. machine:
    # blocks go back at once.
    "server": Package(
        _names("core engine machine planner store text"),
        third_party=_names("uvicorn msgspec llguidance opentelemetry"),
    ),
    "cli": Package(
        _names(
            "tonnage batch benchmark core engine machine models packing planner quality server "
            "store"
        ),
    ),
    # Conversations in Python mean what they mean over HTTP.
    "chat": Package(_names("core engine server"), third_party=_names("msgspec")),
    # The public face.
    "tonnage": Package(_names("chat core engine planner server")),
}
# Modules and packages that import something heavy at their top. Others import them inside
# functions, so that `tonnage run` carries neither numpy nor a template engine before it needs one.
LATE = _names(
    "tonnage.backends.cpu.watch tonnage.backends.reference tonnage.chat.completion "
    "tonnage.chat.requests tonnage.packing "
    "tonnage.formats.block_decode tonnage.formats.block_encode "
    "tonnage.formats.block_random tonnage.formats.codec tonnage.formats.grid_decode "
    "tonnage.formats.low_decode tonnage.formats.super_decode "
    "tonnage.quality.rows tonnage.server tonnage.text.sandbox "
    "tonnage.text.sandbox_functions"
)
# Reference implementations: what they import, beside the standard library.
ORACLES = Path("tests", "oracles")
ORACLES_MAY_IMPORT = _names("numpy oracles")
# Found by type checkers only.
TYPING_PACKAGES = _names("typing_extensions")


@dataclass(frozen=True, slots=True)
class Use:
    """A name that a module imports, or else one that it uses; where, and under what."""

    name: str
    line: int
    imported: bool
    in_function: bool
    for_typing: bool


class _Collector(ast.NodeVisitor):
    """Gathers the uses of one module; `package` is what its relative imports start from."""

    def __init__(self, package: list[str]) -> None:
        self.uses: list[Use] = []
        self._package = package
        self._functions = 0
        self._typing = 0

    def _add(self, name: str, node: ast.stmt | ast.expr, *, imported: bool) -> None:
        in_function, for_typing = self._functions > 0, self._typing > 0
        self.uses.append(Use(name, node.lineno, imported, in_function, for_typing))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node, imported=True)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            start = self._package[: len(self._package) - node.level + 1]
            base = ".".join([*start, *filter(None, [base])])
        for alias in node.names:
            self._add(f"{base}.{alias.name}", node, imported=True)

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func)
        if called in ("import_module", "importlib.import_module", "__import__") and node.args:
            target = node.args[0]
            if isinstance(target, ast.Constant) and isinstance(target.value, str):
                self._add(target.value, node, imported=True)
        elif called == "open":
            self._add("open", node, imported=False)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.value, ast.Name):
            self._add(f"{node.value.id}.{node.attr}", node, imported=False)
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        self._functions += 1
        self.generic_visit(node)
        self._functions -= 1

    visit_AsyncFunctionDef = visit_FunctionDef
    visit_Lambda = visit_FunctionDef

    def visit_If(self, node: ast.If) -> None:
        for_typing = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        self._typing += for_typing
        for child in node.body:
            self.visit(child)
        self._typing -= for_typing
        self.visit(node.test)
        for child in node.orelse:
            self.visit(child)


def uses_of(source: str, package: list[str]) -> list[Use]:
    """Return what a module imports and the dotted names it uses, in the order of its lines."""
    collector = _Collector(package)
    collector.visit(ast.parse(source))
    return collector.uses


def package_of(parts: tuple[str, ...]) -> str:
    """Return the package of a file, given its path below src/tonnage: innermost of the table."""
    folders = [part.removesuffix(".py") for part in parts]
    if len(folders) == 1:
        return {"__init__": "tonnage", "__main__": "cli"}.get(folders[0], folders[0])
    return _innermost(folders[:-1]) or folders[0]


def _innermost(names: Sequence[str]) -> str | None:
    dotted = (".".join(names[:count]) for count in range(len(names), 0, -1))
    return next((name for name in dotted if name in TABLE), None)


def complaints(package: str, module: str, use: Use) -> Iterator[str]:
    """Yield what is wrong with one use in `module` (dotted), which belongs to `package`."""
    rules = TABLE[package]
    forbidden = (use.name == name or use.name.startswith(name + ".") for name in rules.never)
    if use.name in rules.never or (use.imported and any(forbidden)):
        yield f"{package} may never use {use.name}"
    if not use.imported:
        return
    top, _, rest = use.name.partition(".")
    if top == "tonnage":
        target = _target(rest)
        if target not in rules.others | {package}:
            yield f"{package} imports {use.name}; it may import {_listed(rules.others)}"
    elif top not in sys.stdlib_module_names | rules.third_party:
        if not (use.for_typing and top in TYPING_PACKAGES):
            allowed = _listed(rules.third_party)
            yield f"{package} imports {top}; of third-party packages it may import {allowed}"
        return
    heavy = is_late(use.name) or top in rules.third_party
    if heavy and not (use.in_function or use.for_typing or is_late(module)):
        yield f"{use.name} is imported at the top; import it in the function that uses it"


def _target(name: str) -> str:
    """Return the package that `tonnage.<name>` belongs to."""
    names = name.split(".")
    return NATIVE if names[0] == NATIVE else _innermost(names) or "tonnage"


def is_late(name: str) -> bool:
    """Whether `name` is one of LATE or lies inside of one."""
    return any(name == late or name.startswith(late + ".") for late in LATE)


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def violations(root: Path) -> Iterator[str]:
    """Yield a line for every breach of the table in `root`/src/tonnage, and for every circle."""
    base = root / "src" / "tonnage"
    graph: dict[str, set[str]] = {}
    for path in sorted(base.rglob("*.py")):
        parts = path.relative_to(base).parts
        package = package_of(parts)
        where = path.relative_to(root).as_posix()
        if package not in TABLE:
            yield f"{where}: the package {package} is not in the table of tools/check_imports.py"
            continue
        module = ".".join(["tonnage", *parts]).removesuffix(".py").removesuffix(".__init__")
        uses = uses_of(path.read_text("utf-8"), ["tonnage", *parts[:-1]])
        graph[module] = {use.name for use in uses if use.imported}
        for use in uses:
            for wrong in complaints(package, module, use):
                yield f"{where}:{use.line}: {wrong}"
    yield from circles(graph)
    yield from dependent_oracles(root)


def dependent_oracles(root: Path) -> Iterator[str]:
    """Yield a line for every import by which an oracle of `root` depends on what it checks."""
    for path in sorted((root / ORACLES).rglob("*.py")):
        where = path.relative_to(root)
        for use in uses_of(path.read_text("utf-8"), ["oracles"]):
            top = use.name.partition(".")[0]
            if use.imported and top not in sys.stdlib_module_names | ORACLES_MAY_IMPORT:
                allowed = _listed(ORACLES_MAY_IMPORT)
                yield f"{where.as_posix()}:{use.line}: an oracle imports {top}, beside {allowed}"


def circles(graph: Mapping[str, set[str]]) -> Iterator[str]:
    """Yield a line for every set of modules that import each other in a loop.

    graph: module -> the dotted names that it imports. Imports that only type checkers see count.
    """
    edges = {name: _modules(graph, names) - {name} for name, names in graph.items()}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        yield "a circle of imports: " + " -> ".join(reversed(error.args[1]))


def _modules(graph: Mapping[str, set[str]], names: set[str]) -> set[str]:
    """Return the modules of `graph` that the imported names are, or lie in."""
    found = set()
    for name in names - {f"tonnage.{NATIVE}"}:
        parent = name.rpartition(".")[0]
        found |= {next((one for one in (name, parent) if one in graph), "")} - {""}
    return found


def main(arguments: list[str]) -> int:
    """Print every violation; return the exit code."""
    root = Path(arguments[0]) if arguments else Path(__file__).parents[1]
    found = list(violations(root))
    print("\n".join(found) or f"imports: {len(TABLE)} packages, no violation")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
