"""Importing Jinja without OpenSSL, which takes 3.6 MiB and serves a cache that is never used.

Jinja's loaders and its bytecode cache import `hashlib` for one function, sha1. Both modules get an
`__import__` of their own that answers with Python's built-in sha1. No other module sees it, so
other threads may import hashlib at the same time and get the whole of it.
"""

import builtins
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

_MODULES = ("jinja2.bccache", "jinja2.loaders")


def import_without_openssl() -> None:
    """Make the first import of Jinja in this process leave OpenSSL out where it can."""
    if "hashlib" in sys.modules or "jinja2" in sys.modules or _FINDER in sys.meta_path:
        return
    # It stays: taking it out again would shift the list under a thread that is going through it.
    sys.meta_path.insert(0, _FINDER)


class _Finder:
    """Finds the two modules of Jinja, and nothing else."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _MODULES or (hashes := _builtin_hashes()) is None:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path, hashes)
        return spec


class _Loader(SourceFileLoader):
    """Runs a module whose `import hashlib` yields `hashes`."""

    def __init__(self, name: str, path: str, hashes: ModuleType) -> None:
        super().__init__(name, path)
        self._hashes = hashes

    def exec_module(self, module: ModuleType) -> None:
        def import_(name: str, *rest: Any, **more: Any) -> Any:
            return self._hashes if name == "hashlib" else builtins.__import__(name, *rest, **more)

        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": import_}
        super().exec_module(module)


def _builtin_hashes() -> ModuleType | None:
    """Return a module with the interpreter's own sha1, None where it was built without."""
    hashes = ModuleType("hashlib")
    try:
        hashes.__dict__["sha1"] = import_module("_sha1").sha1
    except ImportError:
        return None
    return hashes


_FINDER = _Finder()
