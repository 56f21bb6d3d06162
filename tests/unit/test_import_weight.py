"""What `tonnage run` has to import stays light, since its bytes count against the budget."""

import subprocess
import sys

import pytest

PLANNING = ("tonnage.formats.gguf", "tonnage.models.registry", "tonnage.backends.cpu.layout.plan")
COMMAND = (
    "tonnage.cli", "tonnage.cli.arguments", "tonnage.cli.parsers.run", "tonnage.cli.opening",
    "tonnage.cli.commands.run",
)  # fmt: skip
RUNNING = (
    *COMMAND,
    "tonnage.engine.engine",
    "tonnage.backends.cpu.runtime",
)
# What comes with the form of the model, and on a machine that was measured.
GGUF = ("tonnage.formats.gguf", "tonnage.models.gguf_spec", "tonnage.text.gguf_source")
FOLDER = (
    "tonnage.formats.safetensors", "tonnage.models.hf_spec",
    "tonnage.models.sentence_transformers", "tonnage.text.folder_source",
)  # fmt: skip
MEASURED = ("tonnage.core.rates", "tonnage.engine.plan_speed")
# Each costs megabytes, or a noticeable part of the start, or does what no model needs.
HEAVY = (
    "asyncio", "concurrent", "email", "http", "huggingface_hub", "jinja2", "logging",
    "multiprocessing", "numpy", "ssl", "socket", "sqlite3", "subprocess", "tempfile", "tqdm",
    "unittest", "urllib.request", "xml", "zipfile",
)  # fmt: skip
PREFIXES = tuple(f"{name}." for name in HEAVY)
# Resident memory that the imports may add to a bare interpreter: 7.7, 11.5, 11.9 and 11.7 MiB
# measured where Python may not keep compiled modules; where it may, it was 1.1 MiB less. The
# interpreter's table of names doubles at 10,922 of them, by 0.25 MiB; a run has so many where an
# editable build adds its finder's 100, and the last two limits have room for that.
LIMITS_MIB = {
    PLANNING: 8.0,
    (*RUNNING, *GGUF): 11.9,
    (*RUNNING, *FOLDER): 12.3,
    (*RUNNING, *GGUF, *MEASURED): 12.3,
}
# How much of the interpreter's files is mapped differs from run to run; the least is what counts.
NUM_RUNS = 3

PROGRAM = """
import sys
def resident_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
before = resident_kib()
for name in sys.argv[1:]:
    __import__(name)
print(before, resident_kib())
print(*sorted(sys.modules))
"""


def imported(*names: str) -> tuple[float, float, set[str]]:
    """Return (MiB before, MiB added, modules loaded) of importing `names` in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names], capture_output=True, text=True, check=True
    )
    sizes, modules = done.stdout.splitlines()
    before, after = (int(kib) / 1024 for kib in sizes.split())
    return before, after - before, set(modules.split())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "names", LIMITS_MIB, ids=["planning", "run of a GGUF", "run of a folder", "run with rates"]
)
def test_the_run_path_imports_nothing_heavy(
    names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [imported(*names) for _ in range(NUM_RUNS)]
    before, added, modules = min(runs, key=lambda run: run[1])
    with capsys.disabled():
        print(f"\n  {names[-1]} and before: {before:.1f} + {added:.2f} MiB resident", end="")
    bare = imported()[2]
    found = [name for name in modules - bare if f"{name}.".startswith(PREFIXES)]
    assert not found
    assert added < LIMITS_MIB[names]


def test_looking_for_audits_loads_neither_numpy_nor_an_engine() -> None:
    modules = imported("tonnage.quality")[2]
    assert not modules & {"numpy", "tonnage.engine.engine", "tonnage.quality.rows"}


def test_planning_loads_no_native_module() -> None:
    modules = imported("tonnage.backends.cpu.layout.plan", "tonnage.models.registry")[2]
    assert "tonnage._native" not in modules
