"""Hooks of mkdocs: pages that lie beside `docs`, and the rows of folders in the navigation.

mkdocs.yml names this file (www.mkdocs.org/user-guide/configuration/#hooks). Documents of BESIDE
become pages, and links lead to them; a link to any other file outside of `docs` becomes its words.
A line of the navigation that ends in `/` becomes all pages of that folder, its README first.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

BESIDE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "deploy/README.md": "deploy.md",
}
_FOLDER = "docs"
_LINK = re.compile(r"\[([^\]]*)\]\(([\w./-]+)(#[\w-]*)?\)")


def on_config(config: Any) -> Any:
    """Fill in the folders of the navigation."""
    config.nav = [_filled(one, Path(config.docs_dir)) for one in config.nav]
    return config


def _filled(entry: Any, docs: Path) -> Any:
    ((title, value),) = entry.items()
    if isinstance(value, list):
        return {title: [_filled(one, docs) for one in value]}
    if not value.endswith("/"):
        return entry
    names = sorted(path.name for path in (docs / value).glob("*.md"))
    names.sort(key=lambda name: name != "README.md")
    return {title: [value + name for name in names]}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie beside `docs`."""
    root = Path(config.config_file_path).parent
    for name, page in BESIDE.items():
        text = (root / name).read_text("utf-8")
        files.append(File.generated(config, page, content=linked(text, name, page)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links that leave `docs` lead to the pages that stand for their files."""
    name = page.file.src_uri
    return markdown if name in BESIDE.values() else linked(markdown, f"{_FOLDER}/{name}", name)


def linked(text: str, document: str, page: str) -> str:
    """Return a document's text with the links of the page that it becomes.

    document: its path in the repository. page: its path on the site.
    """

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(document), found[2]))
        place = BESIDE.get(target, target.removeprefix(f"{_FOLDER}/"))
        if place == target:
            return found[1]
        path = posixpath.relpath(place, posixpath.dirname(page) or ".")
        return f"[{found[1]}]({path}{found[3] or ''})"

    return _LINK.sub(link, text)
