"""The registry's tables say what the families say themselves, and a model imports its own alone."""

import pkgutil
import subprocess
import sys

from tonnage.models import families as package
from tonnage.models.registry import (
    BY_GGUF_ARCHITECTURE,
    BY_HF_MODEL_TYPE,
    MARKED,
    families,
    family_of,
)


def test_every_module_is_a_family_of_its_name() -> None:
    modules = sorted(one.name for one in pkgutil.iter_modules(package.__path__))
    assert [one.name for one in families()] == modules
    assert [family_of(name).name for name in modules] == modules


def test_tables_hold_what_families_state() -> None:
    plain = {f.gguf_architecture: f.name for f in families() if not f.gguf_marker}
    plain.pop(None)
    assert plain == BY_GGUF_ARCHITECTURE
    folders = {name: one.name for one in families() for name in one.hf_model_types}
    assert folders == BY_HF_MODEL_TYPE
    marked = [(f.gguf_architecture, f.name) for f in families() if f.gguf_marker]
    assert marked == [(known, name) for known, names in MARKED.items() for name in names]


def test_a_family_is_imported_when_it_is_met() -> None:
    program = (
        "import sys; from tonnage.models.registry import family_of; family_of('llama');"
        "print(*(m for m in sys.modules if m.startswith('tonnage.models.families.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["tonnage.models.families.llama"]
