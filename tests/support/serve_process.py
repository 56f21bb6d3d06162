"""`tonnage serve` as a process of its own, and one request at a time to it."""

import contextlib
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.command import COMMAND, environment


@contextlib.contextmanager
def serving(folder: Path, *args: object, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `tonnage serve ARGS` on a free port; yield the process and its address."""
    command = [*COMMAND, "serve", *map(str, args), "--port", "0"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment(folder, **env)
    ) as process:
        try:
            assert process.stderr is not None
            said = []
            for line in process.stderr:
                said.append(line)
                if " at http://" in line:
                    break
            assert " at http://" in "".join(said), said
            yield process, line.split(" at ")[1].split()[0]
        finally:
            process.kill()


def fetched(url: str, body: object = None, **headers: str) -> dict[str, Any]:
    """Return the JSON that answers a GET, or a POST of `body`."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **headers}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=20) as answer:
        told = json.load(answer)
    assert isinstance(told, dict)
    return told
