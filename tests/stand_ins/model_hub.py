"""A model hub over a dict of files, with the endpoints that huggingface_hub asks.

`/api/models/OWNER/NAME[/revision/REV]`, `/api/models/OWNER/NAME/tree/REV`, and
`/OWNER/NAME/resolve/REV/FILE`, which sends large files on to `/cdn/...`, where ranges are served.
"""

import hashlib
import json
import re
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from stand_ins.http_server import serving

LARGE = (".gguf", ".safetensors")


@dataclass
class ModelHub:
    """repositories: OWNER/NAME -> file -> bytes. cut: files whose next GET stops halfway.

    damaged: files that are sent with other bytes than their hash is of. gets: (file,
    Range header or "") of every download, in order.
    """

    repositories: dict[str, dict[str, bytes]]
    gated: set[str] = field(default_factory=set)
    cut: list[str] = field(default_factory=list)
    damaged: set[str] = field(default_factory=set)
    gets: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""

    def commit(self, repository: str) -> str:
        files = [(name, etag(data)) for name, data in self.repositories[repository].items()]
        return hashlib.sha1(repr(files).encode()).hexdigest()


def info(hub: ModelHub, repository: str) -> dict[str, object]:
    files = hub.repositories[repository]
    return {
        "id": repository,
        "modelId": repository,
        "sha": hub.commit(repository),
        "private": False,
        "gated": repository in hub.gated,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": [{"rfilename": name} for name in files],
    }


def tree(hub: ModelHub, repository: str) -> list[dict[str, object]]:
    rows = []
    for name, data in hub.repositories[repository].items():
        row = {"type": "file", "path": name, "size": len(data), "oid": etag(data)[:40]}
        if name.endswith(LARGE):
            row["lfs"] = {"oid": etag(data), "size": len(data), "pointerSize": 130}
        rows.append(row)
    return rows


def etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def model_hub(repositories: dict[str, dict[str, bytes]]) -> Iterator[ModelHub]:
    hub = ModelHub(repositories)
    with serving(_handler(hub)) as server:
        hub.url = server.address()
        yield hub


def _handler(hub: ModelHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            """Keep quiet."""

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/.*)?", path):
                self._api(match[1], match[2] or "")
            elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
                self._resolve(match[1], match[2])
            elif match := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
                self._send(hub.repositories[match[1]][match[2]], match[2])
            else:
                self.send_error(404)

        def _api(self, repository: str, rest: str) -> None:
            if repository not in hub.repositories:
                self._refuse(404, "RepoNotFound")
                return
            about = tree(hub, repository) if rest.startswith("/tree/") else info(hub, repository)
            self._answer(200, json.dumps(about).encode(), {"Content-Type": "application/json"})

        def _resolve(self, repository: str, name: str) -> None:
            if repository not in hub.repositories:
                self._refuse(404, "RepoNotFound")
            elif repository in hub.gated:
                self._refuse(403, "GatedRepo")
            elif name not in hub.repositories[repository]:
                self._refuse(404, "EntryNotFound", {"X-Repo-Commit": hub.commit(repository)})
            elif name.endswith(LARGE):
                self._send_on(repository, name)
            else:
                headers = {"X-Repo-Commit": hub.commit(repository)}
                self._send(hub.repositories[repository][name], name, headers)

        def _send_on(self, repository: str, name: str) -> None:
            # Another host name, as with the real hub: the library must not follow while asking.
            data = hub.repositories[repository][name]
            headers = {
                "Location": f"{hub.url.replace('127.0.0.1', 'localhost')}/cdn/{repository}/{name}",
                "X-Repo-Commit": hub.commit(repository),
                "X-Linked-Size": str(len(data)),
                "X-Linked-ETag": f'"{etag(data)}"',
            }
            self._answer(302, b"", headers)

        def _send(self, data: bytes, name: str, headers: dict[str, str] | None = None) -> None:
            headers = {"ETag": f'"{etag(data)}"', "Accept-Ranges": "bytes", **(headers or {})}
            asked = self.headers.get("Range", "")
            status, first = 200, 0
            if asked and self.command == "GET":
                first = int(asked.removeprefix("bytes=").split("-")[0])
                headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
                status = 206
            if self.command == "GET":
                hub.gets.append((name, asked))
            if name in hub.damaged:
                data = bytes(byte ^ 1 for byte in data)
            self._answer(status, data[first:], headers, cut=name in hub.cut)

        def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
            self._answer(status, b"", {"X-Error-Code": code, **(headers or {})})

        def _answer(self, status, body: bytes, headers: dict[str, str], cut: bool = False) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "GET":
                return
            if cut:
                hub.cut.remove(self.path.rsplit("/", 1)[1])
                body = body[: len(body) // 2]
            self.wfile.write(body)

    return Handler
