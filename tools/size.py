"""Keep parts small: functions of at most 60 lines, files of at most 400.

Counts Python and C++ under src, native and tools. Prints the largest, and the functions of each
package: how many, their median, 90th percentile and largest. Fails over a limit.
Run: python tools/size.py [REPOSITORY] [--json]
"""

import argparse
import ast
import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from statistics import median

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 400
FOLDERS = ("src", "native", "tools")
SHOWN = 8


@dataclass(frozen=True, slots=True)
class Part:
    """A function or a whole file and its lines; `where` is path:line or a path."""

    where: str
    name: str
    lines: int


def python_functions(source: str) -> Iterator[tuple[str, int, int]]:
    """Yield (name, first line, number of lines) of every function, methods and inner ones too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            last = node.end_lineno or node.lineno
            yield node.name, node.lineno, last - node.lineno + 1


# Comments, raw strings, strings and character literals: nothing in them opens a block.
_OPAQUE = re.compile(
    r"//[^\n]*|/\*.*?\*/|R\"(\w*)\(.*?\)\1\"|\"(?:\\.|[^\"\\\n])*\"|(?<!\w)'(?:\\.|[^'\\\n])+'",
    re.DOTALL,
)
_CONTROL = re.compile(r"\b(if|for|while|switch|catch|constexpr)\s*\(")
_SCOPE = re.compile(r"\b(namespace|class|struct|union|enum|extern)\b[^()=]*$")


def _blanked(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match.group())


def cpp_functions(source: str) -> Iterator[tuple[str, int, int]]:
    """Yield (name, first line, number of lines) of every function with a body.

    Reads braces, not C++: a block whose head has a parameter list and is no control statement is a
    function, and what lies inside of it belongs to it.
    """
    text = _OPAQUE.sub(_blanked, source)
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", _blanked, text, flags=re.MULTILINE)
    depth_of_function: int | None = None
    depth = head_start = begin = 0
    name = ""
    for match in re.finditer(r"[{};]", text):
        at, sign = match.start(), match.group()
        if sign == "{":
            found = _function_name(text[head_start:at])
            if found and depth_of_function is None:
                depth_of_function, name = depth, found
                begin = head_start + len(text[head_start:at]) - len(text[head_start:at].lstrip())
            depth += 1
        elif sign == "}":
            depth -= 1
            if depth == depth_of_function:
                first = text.count("\n", 0, begin) + 1
                yield name, first, text.count("\n", 0, at) + 2 - first
                depth_of_function = None
        head_start = at + 1


def _function_name(head: str) -> str | None:
    if "(" not in head or _SCOPE.search(head) or _CONTROL.search(head):
        return None
    match = re.search(r"([\w~]+|operator\W+)\s*\(", head)
    return match.group(1) if match else None


def parts_of(root: Path) -> tuple[list[Part], list[Part]]:
    """Return (functions, files) of the sources below `root`."""
    functions: list[Part] = []
    files: list[Part] = []
    for path in _sources(root):
        source = path.read_text("utf-8")
        where = path.relative_to(root).as_posix()
        files.append(Part(where, "", len(source.splitlines())))
        scan = python_functions if path.suffix == ".py" else cpp_functions
        functions += [Part(f"{where}:{line}", name, size) for name, line, size in scan(source)]
    return functions, files


def _sources(root: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".py", ".cc", ".h"):
                yield path


def report(title: str, parts: list[Part], limit: int) -> list[str]:
    """Return the lines of a table: the largest parts and every one over the limit."""
    ordered = sorted(parts, key=lambda part: (-part.lines, part.where))
    over = [part for part in ordered if part.lines > limit]
    lines = [f"{title}: {len(parts)}, at most {limit} lines, {len(over)} over"]
    for part in ordered[: max(SHOWN, len(over))]:
        mark = "  <- over" if part.lines > limit else ""
        lines.append(f"  {part.lines:4d}  {part.where} {part.name}".rstrip() + mark)
    return lines


@dataclass(frozen=True, slots=True)
class Spread:
    """Lines of the functions of a package; p90: nine of ten are no longer. where: the largest."""

    count: int
    median: float
    p90: int
    largest: int
    where: str


def package_of(where: str) -> str:
    """Return the package of a path: below src/tonnage its first folder, else its folders."""
    folders = PurePosixPath(where).parts[:-1]
    if folders[:2] == ("src", "tonnage"):
        return "/".join(folders[2:3]) or "tonnage"
    return "native" if folders[:2] == ("native", "include") else "/".join(folders)


def spreads(functions: list[Part]) -> dict[str, Spread]:
    """Return the spread of each package that has functions, by name."""
    packages: dict[str, list[Part]] = {}
    for part in functions:
        packages.setdefault(package_of(part.where), []).append(part)
    return {name: _spread(parts) for name, parts in sorted(packages.items())}


def _spread(parts: list[Part]) -> Spread:
    lines = sorted(part.lines for part in parts)
    largest = max(parts, key=lambda part: part.lines)
    p90 = lines[math.ceil(0.9 * len(lines)) - 1]
    return Spread(len(lines), median(lines), p90, largest.lines, f"{largest.where} {largest.name}")


def table(packages: dict[str, Spread]) -> list[str]:
    """Return the lines of the table of packages."""
    lines = ["package         functions  median  p90  largest"]
    for name, one in packages.items():
        numbers = f"{one.count:9d}  {one.median:6g}  {one.p90:3d}  {one.largest:7d}"
        lines.append(f"{name:<15} {numbers}  {one.where}")
    return lines


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Sizes of functions and files.")
    here = Path(__file__).parents[1]
    parser.add_argument("repository", nargs="?", type=Path, default=here, help="its root")
    parser.add_argument("--json", action="store_true", help="the table of packages as JSON")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Print the tables; return the exit code."""
    options = _parsed(arguments)
    functions, files = parts_of(options.repository)
    packages = spreads(functions)
    if options.json:
        print(json.dumps({name: asdict(one) for name, one in packages.items()}, indent=2))
    else:
        print("\n".join(report("functions", functions, MAX_FUNCTION_LINES)))
        print("\n".join(report("files", files, MAX_FILE_LINES)))
        print("\n".join(table(packages)))
    fits = all(part.lines <= MAX_FUNCTION_LINES for part in functions)
    return 0 if fits and all(part.lines <= MAX_FILE_LINES for part in files) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
