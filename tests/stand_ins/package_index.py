"""A package index (PEP 503) over a folder of wheels, which can stall or cut a download."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from stand_ins.http_server import serving


@dataclass
class PackageIndex:
    """fetched: wheels asked for, in order. stalled: set once the stalled one was half sent."""

    folder: Path
    url: str = ""
    stall_at: str = ""
    fetched: list[str] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def page(self, package: str) -> str:
        stem = package.replace("-", "_") + "-"
        links = []
        for path in sorted(self.folder.glob("*.whl")):
            if path.name.startswith(stem):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                links.append(f'<a href="/files/{path.name}#sha256={digest}">{path.name}</a>')
        return "<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>"


@contextmanager
def package_index(folder: Path) -> Iterator[PackageIndex]:
    index = PackageIndex(folder)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            """Keep quiet."""

        def do_GET(self):
            kind, _, name = self.path.strip("/").partition("/")
            if kind == "simple":
                self._answer(index.page(name).encode(), "text/html")
            elif kind == "files" and (index.folder / name).is_file():
                index.fetched.append(name)
                self._answer((index.folder / name).read_bytes(), "application/octet-stream", name)
            else:
                self.send_error(404)

        def _answer(self, body: bytes, kind: str, name: str = "") -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if index.stall_at and name.startswith(index.stall_at):
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                index.stalled.set()
                index.released.wait(30)
                return
            self.wfile.write(body)

    with serving(Handler) as server:
        index.url = server.address() + "/simple"
        try:
            yield index
        finally:
            index.released.set()


def pip_environment(url: str) -> dict[str, str]:
    """Return variables that point pip at `url` and away from this machine's configuration."""
    return {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": url,
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_RETRIES": "0",
        "NO_PROXY": "127.0.0.1",
    }
