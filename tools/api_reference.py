"""Write docs/reference and docs/models.md from docstrings, options, commands and tables of data.

Run: python tools/api_reference.py; with --check it writes nothing, and fails where a page is not
what it would write. Needs tonnage to be importable.
"""

import argparse
import ast
import inspect
import re
import runpy
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import tonnage
from tonnage.cli.arguments import COMMANDS, parser_of
from tonnage.core.options import Described, described
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.options import EngineOptions, MemoryOptions, ModelOptions, PlanOptions
from tonnage.server.options import LogOptions, ServeOptions

FOLDER = Path("docs/reference")
_DATA = runpy.run_path(str(Path(__file__).with_name("reference_data.py")))
MADE = _DATA["MADE"]
GROUPS = (
    ("Memory", MemoryOptions),
    ("Models", ModelOptions),
    ("Plans", PlanOptions),
    ("Engines", EngineOptions),
    ("Servers", ServeOptions),
    ("Logs", LogOptions),
    ("Sampling", SamplingOptions),
)


def pages() -> dict[str, str]:
    """Return path below FOLDER -> content of every page."""
    found = {
        "api.md": api(),
        "options.md": options(),
        "cli.md": command_line(),
        "metrics.md": _DATA["metrics"](),
        "errors.md": _DATA["error_classes"](),
        "../models.md": _DATA["models"](),
    }
    return {name: "\n".join(lines).rstrip() + "\n" for name, lines in found.items()}


def api() -> Iterator[str]:
    """Yield the lines of the page of classes and functions."""
    yield "# Python API"
    yield ""
    yield MADE
    yield "All names are imported from `tonnage`; [options.md](options.md) has the options."
    names = sorted(set(tonnage.__all__) - {"__version__"}, key=str.lower)
    for kind, title in ((inspect.isfunction, "Functions"), (inspect.isclass, "Classes")):
        chosen = [name for name in names if kind(getattr(tonnage, name))]
        yield from ("", f"## {title}")
        for name in chosen:
            yield from _entry(name, getattr(tonnage, name))


def _entry(name: str, value: Any) -> Iterator[str]:
    source = _definition(value)
    yield from ("", f"### {name}", "")
    if isinstance(source, ast.FunctionDef):
        yield from (*_code(_signature(source, name)), "")
    yield from _doc(source)
    if isinstance(source, ast.ClassDef) and not _has_options(value):
        yield from _fields(source)
        yield from _methods(name, value)


def _definition(value: Any) -> ast.FunctionDef | ast.ClassDef:
    """Return the definition in the source of its module, so that no interpreter words it."""
    tree = ast.parse(inspect.getsource(import_module(value.__module__)))
    kinds = ast.FunctionDef | ast.ClassDef
    return next(n for n in tree.body if isinstance(n, kinds) and n.name == value.__name__)


def _has_options(value: Any) -> bool:
    return any(value is group for _, group in GROUPS)


def _fields(source: ast.ClassDef) -> Iterator[str]:
    fields = [node for node in source.body if isinstance(node, ast.AnnAssign)]
    shown = [node for node in fields if not ast.unparse(node.target).startswith("_")]
    if shown:
        yield from ("", "| field | type |", "|---|---|")
    for node in shown:
        hint = _type(node.annotation).replace("|", "\\|")
        yield f"| `{ast.unparse(node.target)}` | `{hint}` |"


def _methods(name: str, value: Any) -> Iterator[str]:
    """Yield the public methods of a class, then those that it has from others of ours."""
    nodes: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
    for one in value.__mro__:
        if one.__module__.startswith("tonnage."):
            for node in _definition(one).body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    nodes.setdefault(node.name, node)
    for node in nodes.values():
        if node.name.startswith("_"):
            continue
        yield from ("", f"#### {name}.{node.name}", "")
        if not any(ast.unparse(one) == "property" for one in node.decorator_list):
            yield from (*_code(_signature(node, node.name)), "")
        yield from _doc(node)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> str:
    """Return a call with one parameter a line where it is long."""
    shown = list(_parameters(node.args))
    result = "" if node.returns is None else f" -> {_type(node.returns)}"
    line = f"{name}({', '.join(shown)}){result}"
    if len(line) <= 88:
        return line
    lines = "".join(f"    {part},\n" for part in shown)
    return f"{name}(\n{lines}){result}"


def _parameters(args: ast.arguments) -> Iterator[str]:
    """Yield the parameters of a signature but self, as they are written."""
    missing: list[ast.expr | None] = [None] * (len(args.args) - len(args.defaults))
    for arg, default in zip(args.args, [*missing, *args.defaults], strict=True):
        if arg.arg not in ("self", "cls"):
            yield _parameter(arg, default)
    if args.vararg is not None or args.kwonlyargs:
        yield "*" if args.vararg is None else f"*{_parameter(args.vararg, None)}"
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        yield _parameter(arg, default)
    if args.kwarg is not None:
        yield f"**{_parameter(args.kwarg, None)}"


def _parameter(arg: ast.arg, default: ast.expr | None) -> str:
    hint = "" if arg.annotation is None else f": {_type(arg.annotation)}"
    return f"{arg.arg}{hint}" + ("" if default is None else f" = {ast.unparse(default)}")


def _type(node: ast.expr) -> str:
    return _typed(ast.unparse(node))


def _typed(text: str) -> str:
    """Return annotations without quotes, and keyword options by the name of their group."""
    return re.sub(r"Unpack\[(\w+)\]", r"\1", re.sub(r"'([\w\[\], .|]+)'", r"\1", text))


def _code(text: str) -> Iterator[str]:
    yield from ("```python", text, "```")


def _doc(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Iterator[str]:
    text = ast.get_docstring(node) or ""
    for number, paragraph in enumerate(text.split("\n\n")):
        yield from [""][:number]
        yield paragraph if paragraph.startswith("    ") else " ".join(paragraph.split())


def options() -> Iterator[str]:
    """Yield the lines of the page of options."""
    yield "# Options"
    yield ""
    yield MADE
    yield "An option has one name in Python and on the command line, where `_` is written `-`."
    yield "What is not stated is chosen or has the default below."
    known: set[str] = set()
    for title, group in GROUPS:
        own = [one for one in described(group) if group is SamplingOptions or one.name not in known]
        known |= {one.name for one in own}
        yield from ("", f"## {title}", "", *_doc(_definition(group)), "")
        yield from ("| name | type | default | flag | what |", "|---|---|---|---|---|")
        yield from map(_option, own)


def _option(one: Described) -> str:
    flags = [] if one.flag is None else [one.flag, *one.option.also]
    flag = ", ".join(f"`{flag}`" for flag in flags) or "Python only"
    low, high = one.option.low, one.option.high
    bounds = "" if low is None or high is None else f"; {low:,} to {high:,}"
    former = "".join(f"; formerly `{name}`" for name in one.option.former)
    hint = re.sub(r"\b(?:[a-z_]+\.)+([A-Z])", r"\1", one.hint)
    cells = (
        f"`{one.name}`", f"`{hint}`".replace("|", "\\|"), one.usual, flag,
        f"{one.option.help}{bounds}{former}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def command_line() -> Iterator[str]:
    """Yield the lines of the page of commands."""
    yield "# Command line"
    yield ""
    yield MADE
    yield "`tonnage COMMAND --help` prints the same. Exit codes: 0 done, 2 refused with a sentence,"
    yield "3 done but for refused lines of a batch, 4 an audit missed its --gate, 130 after"
    yield "Ctrl-C, 141 when the reader of stdout went away, 1 a bug."
    for name in COMMANDS:
        parser = parser_of(name)
        yield from ("", f"## tonnage {name}", "", parser.description or "")
        rows = [action for action in parser._actions if action.help != argparse.SUPPRESS]
        yield from ("", "| word | what |", "|---|---|")
        for action in rows:
            yield f"| {_word(action)} | {_cell(action.help or '')} |"


def _word(action: argparse.Action) -> str:
    shown = str(action.metavar or action.dest.upper())
    if not action.option_strings:
        return f"`{shown}`"
    value = "" if action.nargs == 0 else f" {shown}"
    return f"`{action.option_strings[-1]}{value}`".replace("|", "\\|")


def _cell(text: str) -> str:
    return text.replace("%%", "%").replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Write the pages, or name those that are stale; return the exit code."""
    stale = [name for name, text in pages().items() if _read(FOLDER / name) != text]
    if "--check" in arguments:
        for name in stale:
            print(f"{FOLDER / name} is stale; run python tools/api_reference.py")
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (FOLDER / name).write_text(pages()[name], "utf-8")
    return 0


def _read(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
