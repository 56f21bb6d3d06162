"""What a test of a pull needs: a progress that remembers, a fetch without pip, another process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tonnage.core.errors import PullError

PULL_SCRIPT = """
import os, sys
from pathlib import Path
from tonnage.cli.render.terminal import PullProgress
from tonnage.core.errors import TonnageError
from tonnage.store.catalog import Catalogs
from tonnage.store.source import resolve
catalogs = Catalogs((Path(sys.argv[1]),))
try:
    print(resolve(sys.argv[2], catalogs=catalogs, progress=PullProgress(sys.stderr)).path)
except TonnageError as error:
    print(error)
    sys.exit(2)
"""


class RememberingProgress:
    def __init__(self):
        self.lines: list[str] = []
        self.positions: list[int] = []
        self.done_bytes = -1
        self.num_closed = 0

    def start(self, title, total_bytes, done_bytes):
        self.done_bytes = done_bytes

    def stage(self, text):
        self.lines.append(text)

    def at(self, position_bytes):
        self.positions.append(position_bytes)

    def close(self):
        self.num_closed += 1


class FolderFetch:
    """Takes the place of download_wheel: copies wheels from a folder, and can fail at one."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.fetched: list[str] = []
        self.fail_at: str | None = None
        self.error: BaseException = PullError("the network is gone")

    def __call__(self, package, folder, on_bytes, environ):
        if package == self.fail_at:
            raise self.error
        self.fetched.append(package)
        stem = package.split("==")[0].replace("-", "_")
        (wheel,) = self.folder.glob(f"{stem}-*.whl")
        on_bytes(wheel.stat().st_size // 2)
        return Path(shutil.copy(wheel, folder))


def start_pull(
    catalog: Path, name: str, environ: dict[str, str], python: str = sys.executable
) -> subprocess.Popen[str]:
    """Start a pull in a process of its own, which prints the file, or a sentence and exits 2."""
    return subprocess.Popen(
        [python, "-c", PULL_SCRIPT, str(catalog), name],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
