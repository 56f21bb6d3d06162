"""Enforce which room of src/tonnage may import what.

Imports inside functions and under TYPE_CHECKING count, and so do importlib.import_module and
__import__ with a literal name. Exit code 1 and one line per violation.
Run: python tools/check_imports.py [REPOSITORY]
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NATIVE = "_native"


@dataclass(frozen=True, slots=True)
class Room:
    """What one room may import.

    rooms: its neighbours (itself is always allowed). packages: third-party ones, late only: inside
    a function or in a module of LATE. never: dotted names of the standard library that it may
    neither import nor use, and builtins that it may not call.
    """

    rooms: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A pure room computes the same from the same arguments: no environment, clock, files or logging.
_CLOCK = _names("time datetime")
_OUTSIDE = _CLOCK | _names(
    "os sys io pathlib logging random secrets subprocess socket tempfile open"
)
_INNER = _names(
    "core formats models machine planner ops memory runtime text headers generation serving"
)
_AROUND = _names("scheduler compress quality")

TABLE: dict[str, Room] = {
    # core has os.urandom for a fresh seed, hence not the whole of os.
    "core": Room(never=_CLOCK | _names("os.environ os.getenv logging")),
    # The native module scans strings of a header; numpy serves the reference codec alone.
    "formats": Room(_names("core _native"), packages=_names("numpy")),
    # A specification comes from headers; where a model comes from (pull) lives here too.
    "models": Room(_names("core formats"), packages=_names("huggingface_hub tqdm")),
    "machine": Room(_names("core _native")),
    "planner": Room(_names("core"), never=_OUTSIDE),
    "ops": Room(_names("core formats _native"), packages=_names("numpy")),
    "memory": Room(_names("core formats ops _native")),
    "runtime": Room(_names("core ops memory _native")),
    "scheduler": Room(_names("core"), never=_CLOCK),
    "text": Room(_names("core _native"), packages=_names("jinja2")),
    "compress": Room(_names("core formats ops _native"), packages=_names("numpy")),
    # Measures through the engine, on models that `models` has found; keeps figures in its cache, by
    # the mix of formats that `planner` names.
    # Numpy goes over rows of logits: a pair of 262k takes 2.4 ms, in plain Python 33 ms.
    "quality": Room(
        _names("tonnage core engine headers models planner text _native"),
        packages=_names("numpy"),
    ),
    # From a model's file or folder to its specification and tokenizer: what plans are made of.
    "headers": Room(_names("core formats models text")),
    # A prompt in any form to token ids, for the engine.
    "prompts": Room(_names("core text")),
    # One answer, token by token: the part of the engine that runs per step.
    "generation": Room(_names("core runtime text _native")),
    # Many answers at once: executes what the scheduler decides, and hands out what came of it.
    # Its disk tier needs to know the model's files and keeps pages through `memory`.
    "serving": Room(_names("core runtime text generation scheduler memory models _native")),
    # Beside the engine: what its plan should do here, and why it does not.
    "expectation": Room(_names("core models machine planner")),
    # How a model is to be opened.
    "opening": Room(_names("core planner serving")),
    # Several models in one process: what each takes beside the others, before any is loaded.
    "roster": Room(
        _names("core engine expectation headers machine memory models opening planner quality")
    ),
    "engine": Room(_names("expectation opening prompts") | _INNER | _AROUND | _names("_native")),
    # Reads requests into msgspec's structures; uvicorn speaks HTTP; traces are an extra. memory:
    # blocks go back at once.
    "server": Room(
        _names("tonnage core engine generation serving text memory"),
        packages=_names("uvicorn msgspec llguidance opentelemetry"),
    ),
    "cli": Room(
        _names(
            "tonnage core engine expectation headers generation opening roster server serving "
            "planner machine models compress quality"
        ),
    ),
    # The package itself hands out the engine.
    "tonnage": Room(_names("core engine generation")),
}
# Modules and rooms that import something heavy at their top. Others import them inside functions,
# so that `tonnage run` carries neither numpy nor a template engine before it needs one.
LATE = _names(
    "tonnage.formats.block_decode tonnage.formats.block_encode tonnage.formats.block_random "
    "tonnage.formats.codec tonnage.formats.super_decode tonnage.ops tonnage.quality.rows "
    "tonnage.server tonnage.text.sandbox"
)
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


def room_of(parts: tuple[str, ...]) -> str:
    """Return the room of a file, given its path below src/tonnage."""
    if len(parts) > 1:
        return parts[0]
    stem = parts[0].removesuffix(".py")
    return {"__init__": "tonnage", "__main__": "cli"}.get(stem, stem)


def complaints(room: str, module: str, use: Use) -> Iterator[str]:
    """Yield what is wrong with one use in `module` (dotted), which belongs to `room`."""
    rules = TABLE[room]
    forbidden = (use.name == name or use.name.startswith(name + ".") for name in rules.never)
    if use.name in rules.never or (use.imported and any(forbidden)):
        yield f"{room} may never use {use.name}"
    if not use.imported:
        return
    top, _, rest = use.name.partition(".")
    if top == "tonnage":
        target = rest.partition(".")[0]
        target = target if target in TABLE or target == NATIVE else "tonnage"
        if target not in rules.rooms | {room}:
            yield f"{room} imports {use.name}; it may import {_listed(rules.rooms)}"
    elif top not in sys.stdlib_module_names | rules.packages:
        if not (use.for_typing and top in TYPING_PACKAGES):
            allowed = _listed(rules.packages)
            yield f"{room} imports {top}; of third-party packages it may import {allowed}"
        return
    heavy = is_late(use.name) or top in rules.packages
    if heavy and not (use.in_function or use.for_typing or is_late(module)):
        yield f"{use.name} is imported at the top; import it in the function that uses it"


def is_late(name: str) -> bool:
    """Whether `name` is one of LATE or lies inside of one."""
    return any(name == late or name.startswith(late + ".") for late in LATE)


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def violations(root: Path) -> Iterator[str]:
    """Yield a line for every breach of the table in `root`/src/tonnage."""
    base = root / "src" / "tonnage"
    for path in sorted(base.rglob("*.py")):
        parts = path.relative_to(base).parts
        room = room_of(parts)
        where = path.relative_to(root).as_posix()
        if room not in TABLE:
            yield f"{where}: the room {room} is not in the table of tools/check_imports.py"
            continue
        module = ".".join(["tonnage", *parts]).removesuffix(".py")
        for use in uses_of(path.read_text("utf-8"), ["tonnage", *parts[:-1]]):
            for wrong in complaints(room, module, use):
                yield f"{where}:{use.line}: {wrong}"


def main(arguments: list[str]) -> int:
    """Print every violation; return the exit code."""
    root = Path(arguments[0]) if arguments else Path(__file__).parents[1]
    found = list(violations(root))
    print("\n".join(found) or f"imports: {len(TABLE)} rooms, no violation")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
