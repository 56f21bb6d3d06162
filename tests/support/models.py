"""Real models for tests: those that were pulled, or those in the folder TONNAGE_TEST_MODELS.

Tests find them as NAME.gguf in that folder. Where it is not set, tests/conftest.py makes one of
links to what `tonnage pull` has cached, of the shipped catalog and of bench/catalog.toml.
"""

import os
from pathlib import Path

import pytest

from tonnage.core.errors import TonnageError
from tonnage.store.catalog import PackagedModel, open_catalogs
from tonnage.store.source import list_models

VARIABLE = "TONNAGE_TEST_MODELS"
NO_MODEL = "no real model pulled"
_BENCH_CATALOG = Path(__file__).parents[2] / "bench" / "catalog.toml"


def pulled_models() -> dict[str, Path]:
    """Return the pulled models whose size and hash a catalog states, by name."""
    try:
        rows = list_models(open_catalogs(_BENCH_CATALOG, {}))
    except TonnageError:
        return {}
    return {
        row.name: row.path
        for row in rows
        if row.state == "pulled" and isinstance(row.entry, PackagedModel) and row.path is not None
    }


def link_pulled_models(folder: Path) -> None:
    """Make `folder` one of links to the pulled models, and let the variable name it."""
    for name, path in pulled_models().items():
        (folder / f"{name}.gguf").symlink_to(path)
    os.environ[VARIABLE] = str(folder)


def model_file(name: str = "smollm2-135m") -> Path:
    """Return where tests look for a model, which may not be there."""
    return Path(os.environ.get(VARIABLE) or "/nonexistent", f"{name}.gguf")


def real_model(name: str = "smollm2-135m") -> Path:
    """Return the file of a model, or skip the test that asks."""
    path = model_file(name)
    if not path.is_file():
        pytest.skip(f"{NO_MODEL}: {name}")
    return path
