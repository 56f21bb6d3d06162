"""Keep the documents true and readable.

Looks at README.md, CONTRIBUTING.md and all of docs. Words in backticks that are paths or dotted
names of this package must exist, and so must the files and headings that links lead to. Every
document of docs is reached by a link from another. A document has at most MEAN_WORDS words per
sentence in the mean; decisions and results are records and may have more. The packages of
docs/architecture.md are those of tools/check_imports.py.
Run: python tools/check_docs.py [REPOSITORY]; with --sentences it prints the means.
"""

import ast
import re
import runpy
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/**/*.md")
RECORDS = ("docs/decisions", "docs/results")
MEAN_WORDS = 25
# A short path may be told from one of these; the document's own folder counts too.
BASES = (".", "src/tonnage", "native", "native/include")
# What builds and tests make, and what a user's machine has.
MADE = (".venv", "build")
SUFFIXES = "py|pyi|cc|h|md|toml|sh|json|txt|cmake"

_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(rf"\.?[\w.*{{}},-]+(?:/[\w.*{{}},-]+)*/?|[\w-]+\.(?:{SUFFIXES})")
_MODULE = re.compile(r"tonnage(?:\.\w+)+")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_ENDS = re.compile(r"[.!?][)\"'*]*\s+")


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
    """Yield relative link targets, with their anchors."""
    for target in _LINK.findall(text):
        if "://" not in target and not target.startswith("mailto:"):
            yield target


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings: lower case, hyphens for spaces."""
    headings = re.findall(r"^#+ +(.+?) *$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def sentences(text: str) -> list[str]:
    """Return the sentences of a document's prose: no code, tables or headings.

    An item of a list ends a sentence. What stands in backticks counts as one word.
    """
    prose = re.sub(r"^(?:\||#).*$", "", _FENCE.sub("", text), flags=re.MULTILINE)
    prose = re.sub(r"\]\([^)]*\)", "", _SPAN.sub("code", prose))
    blocks = re.split(r"\n\s*\n|^\s*(?:-|\d+\.) ", prose, flags=re.MULTILINE)
    found = (one for block in blocks for one in _ENDS.split(" ".join(block.split()) + " "))
    return [one for one in found if len(one.split()) > 1]


def mean_words(text: str) -> float:
    """Return the mean number of words per sentence of a document's prose; 0 without any."""
    lengths = [len(one.split()) for one in sentences(text)]
    return sum(lengths) / len(lengths) if lengths else 0.0


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
    if isinstance(node, ast.If):  # what only type checkers import
        return set().union(*map(_bound, node.body))
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    return set()


def documents(root: Path) -> list[Path]:
    """Return all documents that are checked, in order."""
    return [path for pattern in DOCUMENTS for path in sorted(root.glob(pattern))]


def missing(root: Path) -> Iterator[str]:
    """Yield a line for everything that a document names and that does not exist."""
    for document in documents(root):
        where = document.relative_to(root).as_posix()
        for number, line in enumerate(document.read_text("utf-8").splitlines(), 1):
            for word in _missing_in(root, document, line):
                yield f"{where}:{number}: {word} does not exist"


def _missing_in(root: Path, document: Path, line: str) -> Iterator[str]:
    for word in named_paths(line):
        if not path_exists(root, document.parent, word):
            yield word
    for name in named_modules(line):
        if not module_exists(root, name):
            yield name
    for target in links(line):
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        if not file.exists():
            yield path
        elif anchor and anchor not in anchors(file.read_text("utf-8")):
            yield target


def unreached(root: Path) -> Iterator[str]:
    """Yield a line for every document of docs that no other document links to."""
    reached = set()
    for document in documents(root):
        for target in links(document.read_text("utf-8")):
            file = (document.parent / target.partition("#")[0]).resolve()
            reached |= {file} - {document.resolve()}
    for document in documents(root):
        where = document.relative_to(root).as_posix()
        if where.startswith("docs/") and document.resolve() not in reached:
            yield f"{where}: no document links to it"


def long_winded(root: Path) -> Iterator[str]:
    """Yield a line for every document whose sentences are too long in the mean."""
    for document in documents(root):
        where = document.relative_to(root).as_posix()
        mean = mean_words(document.read_text("utf-8"))
        if mean > MEAN_WORDS and not where.startswith(RECORDS):
            yield f"{where}: {mean:.1f} words per sentence in the mean; at most {MEAN_WORDS}"


def allowed_imports(package: Any) -> str:
    """Return the last column of docs/architecture.md for a `Package` of tools/check_imports.py."""
    ours = ", ".join(sorted(package.others)) or "nothing of ours"
    late = ", ".join(sorted(package.third_party))
    return f"{ours}; late: {late}" if late else ours


def other_packages(root: Path) -> Iterator[str]:
    """Yield a line for every row of the packages of docs/architecture.md that is not true.

    Nothing where there is no such document or table.
    """
    document, rules = root / "docs/architecture.md", root / "tools/check_imports.py"
    if not (document.exists() and rules.exists()):
        return
    text = document.read_text("utf-8").partition("\n## Packages\n")[2].partition("\n## ")[0]
    stated = dict(re.findall(r"^\| `([\w.]+)` \|.*\| ([^|]*) \|$", text, re.MULTILINE))
    table = runpy.run_path(str(rules))["TABLE"]
    for name in {**table, **stated}:
        told = allowed_imports(table[name]) if name in table else "no such package"
        if stated.get(name) != told:
            yield f"docs/architecture.md: imports of `{name}`: {told}"


def _means(root: Path) -> Iterator[str]:
    for document in documents(root):
        mean = mean_words(document.read_text("utf-8"))
        yield f"{mean:5.1f} {document.relative_to(root).as_posix()}"


def main(arguments: list[str]) -> int:
    """Print what is wrong; return the exit code."""
    folders = [one for one in arguments if one != "--sentences"]
    root = Path(folders[0]) if folders else Path(__file__).parents[1]
    if "--sentences" in arguments:
        print("\n".join(_means(root)))
        return 0
    found = [*missing(root), *unreached(root), *long_winded(root), *other_packages(root)]
    print("\n".join(found) or "docs: what they name exists, and sentences are short enough")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
