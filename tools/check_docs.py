"""Keep the documents true: every path, module and link that they name must exist.

Looks at README.md, CONTRIBUTING.md and docs/*.md: words in backticks that are paths or dotted names
of this package, and relative links. Run: python tools/check_docs.py [REPOSITORY]
"""

import ast
import re
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/*.md")
# A short path may be told from one of these; the document's own folder counts too.
BASES = (".", "src/tonnage", "native", "native/include")
# What builds and tests make, and what a user's machine has.
MADE = (".venv", "build")
SUFFIXES = "py|pyi|cc|h|md|toml|sh|json|txt|cmake"

_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(rf"\.?[\w.*{{}},-]+(?:/[\w.*{{}},-]+)*/?|[\w-]+\.(?:{SUFFIXES})")
_MODULE = re.compile(r"tonnage(?:\.\w+)+")


def named_paths(text: str) -> Iterator[str]:
    """Yield the words in backticks that read as paths: a slash inside, or a known file ending."""
    for span in _SPAN.findall(text):
        for word in span.split():
            known_end = re.search(rf"\.(?:{SUFFIXES})$", word)
            if _PATH.fullmatch(word) and ("/" in word.rstrip("/") or known_end):
                yield word


def named_modules(text: str) -> Iterator[str]:
    """Yield the dotted names in backticks that start with `tonnage.`."""
    for span in _SPAN.findall(text):
        yield from _MODULE.findall(span)


def links(text: str) -> Iterator[str]:
    """Yield relative link targets without their anchors."""
    for target in _LINK.findall(text):
        path = target.partition("#")[0]
        if path and "://" not in target and not target.startswith("mailto:"):
            yield path


def expanded(pattern: str) -> list[str]:
    """Return `a/{b,c}.py` as its two paths; a pattern without braces alone."""
    pieces = re.split(r"\{([^{}]*)\}", pattern)
    choices = [piece.split(",") if i % 2 else [piece] for i, piece in enumerate(pieces)]
    return ["".join(parts) for parts in product(*choices)]


def path_exists(root: Path, folder: Path, word: str) -> bool:
    """Whether every path that `word` stands for exists below a base; `*` matches anything."""
    bases = [root / base for base in BASES] + [folder]
    if word.partition("/")[0] in MADE:
        return True
    return all(any(_found(base, path.rstrip("/")) for base in bases) for path in expanded(word))


def _found(base: Path, path: str) -> bool:
    return any(base.glob(path)) if "*" in path else (base / path).exists()


def module_exists(root: Path, name: str) -> bool:
    """Whether `name` is a module below src, or a name at the top of one (a class's member too)."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        base = root.joinpath("src", *parts[:count])
        for file in (base / "__init__.py", base.with_suffix(".py"), base.with_suffix(".pyi")):
            if file.is_file():
                return _defines(ast.parse(file.read_text("utf-8")), parts[count:])
    return False


def _defines(tree: ast.AST, names: list[str]) -> bool:
    if not names:
        return True
    inner = [node for node in ast.iter_child_nodes(tree) if names[0] in _bound(node)]
    return any(_defines(node, names[1:]) for node in inner)


def _bound(node: ast.AST) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.AnnAssign):
        return {ast.unparse(node.target)}
    if isinstance(node, ast.Assign):
        return {ast.unparse(target) for target in node.targets}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    return set()


def missing(root: Path) -> Iterator[str]:
    """Yield a line for everything that a document names and that does not exist."""
    for pattern in DOCUMENTS:
        for document in sorted(root.glob(pattern)):
            where = document.relative_to(root).as_posix()
            for number, line in enumerate(document.read_text("utf-8").splitlines(), 1):
                for word in _missing_in(root, document.parent, line):
                    yield f"{where}:{number}: {word} does not exist"


def _missing_in(root: Path, folder: Path, line: str) -> Iterator[str]:
    for word in named_paths(line):
        if not path_exists(root, folder, word):
            yield word
    for name in named_modules(line):
        if not module_exists(root, name):
            yield name
    for target in links(line):
        if not path_exists(root, folder, target):
            yield target


def main(arguments: list[str]) -> int:
    """Print what is missing; return the exit code."""
    root = Path(arguments[0]) if arguments else Path(__file__).parents[1]
    found = list(missing(root))
    print("\n".join(found) or "docs: every path and module they name exists")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
