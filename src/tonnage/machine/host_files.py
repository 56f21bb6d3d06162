"""Reading the kernel's text files below a root that tests can replace."""

import os


class HostFiles:
    """The files under /proc and /sys, below `root`. A file that is absent or unreadable is None."""

    def __init__(self, root: str = "/") -> None:
        """`root` stands for `/`."""
        self._root = root

    def _path(self, path: str) -> str:
        return os.path.join(self._root, path.lstrip("/"))

    def text(self, path: str) -> str | None:
        """Return the whole text of `path`."""
        try:
            with open(self._path(path), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return None

    def line(self, path: str) -> str:
        """Return the first line of `path` without surrounding space, or an empty string."""
        text = self.text(path)
        return text.split("\n", 1)[0].strip() if text else ""

    def number(self, path: str) -> int | None:
        """Return the whole number in the first line of `path`."""
        return whole_number(self.line(path))

    def names(self, path: str) -> list[str]:
        """Return the sorted names in the directory `path`, none when it is absent."""
        try:
            return sorted(os.listdir(self._path(path)))
        except OSError:
            return []

    def fields(self, path: str, separator: str = ":") -> dict[str, str]:
        """Return `key<separator>value` lines; the first of repeated keys wins."""
        found: dict[str, str] = {}
        for line in (self.text(path) or "").splitlines():
            key, sep, value = line.partition(separator)
            if sep:
                found.setdefault(key.strip(), value.strip())
        return found


def whole_number(text: str) -> int | None:
    """Return `text` as a non-negative int below 1e19, or None when it is anything else."""
    return int(text) if len(text) < 20 and text.isascii() and text.isdigit() else None


def kibibytes(text: str) -> int | None:
    """Return the bytes of `123 kB` (as /proc writes) or `48K`, `32M`, `1G` (as /sys does)."""
    digits = text.rstrip(" kKMGB")
    value = whole_number(digits)
    if value is None:
        return None
    unit = text[len(digits) :].strip()[:1].upper()
    return value << {"": 0, "K": 10, "M": 20, "G": 30}.get(unit, 0)


def cpu_list(text: str) -> tuple[int, ...]:
    """Return the CPUs of a kernel list such as `0-3,8,10-11`, skipping what is not one."""
    cpus: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        low, high = whole_number(first), whole_number(last or first)
        if low is not None and high is not None and low <= high < 1 << 20:
            cpus.update(range(low, high + 1))
    return tuple(sorted(cpus))
