"""Faults put into a real run, one at a time: each is named within fifty tokens."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.command import COMMAND, environment, tonnage
from support.cpu_group import NoCpuGroupError, cpu_group
from support.models import real_model
from support.page_cache import forget
from tonnage.machine.host import read_machine

MODEL = "smollm2-135m"
PROMPT = "Tell me a long story about the sea."
CPUS = min(len(read_machine().affinity), read_machine().num_cores)
# Of all CPUs, what others may use beside a run that counts as healthy.
QUIET = 0.05
# Reads 256 MiB again and again on one CPU.
STREAM = """
import time
from tonnage import _native
from tonnage.machine.host import read_machine
print("up", flush=True)
_native.probe_read(read_machine().isa, 1, 256 << 20, 120.0)
"""

pytestmark = [pytest.mark.slow, pytest.mark.quiet]


@pytest.fixture(scope="module")
def model() -> Path:
    return real_model(MODEL)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    done = tonnage(folder, "doctor", "--measure")
    assert done.returncode == 0, done.stderr
    return folder


def answered(home: Path, model: Path, *args: object, before: Sequence[str] = ()) -> dict:
    """Return the answer of fifty tokens; before: what leads its command."""
    command = [*before, *COMMAND, "run", model, PROMPT, "--max-tokens", 50, "--temperature", 0]
    done = subprocess.run(
        [str(part) for part in (*command, "--context", 512, "--json", *args)],
        capture_output=True, text=True, env=environment(home), timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["num_generated_tokens"] == 50
    named = [line for line in done.stderr.splitlines() if "slower than it was measured" in line]
    loading = sum("came from the disk" in fault["sentence"] for fault in result["slowdown"])
    assert len(named) == len(result["slowdown"]) - loading
    return result


def causes(result: dict) -> set[str]:
    return {fault["cause"] for fault in result["slowdown"]}


def blames_waiting(result: dict) -> bool:
    """Return whether others are named for time without a CPU; theft is the host's own count."""
    found = (fault for fault in result["slowdown"] if fault["cause"] == "tenant")
    return any("other machines" not in fault["sentence"] for fault in found)


def others_share() -> float:
    """Return the share of all CPUs that is in use now, this process being idle."""
    before = _busy_and_all()
    time.sleep(0.5)
    busy, total = (b - a for a, b in zip(before, _busy_and_all(), strict=True))
    return busy / max(1, total)


def share_once_quiet() -> float:
    """Return that share as soon as it is at most QUIET, or the last one of ten seconds."""
    for _ in range(20):
        share = others_share()
        if share <= QUIET:
            break
    return share


def _busy_and_all() -> tuple[int, int]:
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


@contextmanager
def neighbours(num: int) -> Iterator[None]:
    """Let `num` processes stream memory."""
    streams = [
        subprocess.Popen([sys.executable, "-c", STREAM], stdout=subprocess.PIPE, text=True)
        for _ in range(num)
    ]
    try:
        for stream in streams:
            assert stream.stdout is not None
            assert stream.stdout.readline() == "up\n"
        yield
    finally:
        for stream in streams:
            stream.kill()
            stream.communicate()


def slowness(result: dict) -> float:
    """Return how many times as long as forecast a token took."""
    return result["forecast"]["decode_tokens_per_s"] / result["decode_tokens_per_s"]


def test_a_healthy_run_names_nothing(home, model, capsys):
    for _ in range(5):
        busy = share_once_quiet()
        if busy > QUIET:
            pytest.skip(f"others use {busy:.0%} of the CPUs, so that no run here is healthy")
        result = answered(home, model)
        with capsys.disabled():
            print(f"\n  {slowness(result):.2f} x the forecast {causes(result) or ''}", end="")
        if not causes(result):
            break
    else:
        pytest.fail(f"a healthy run was blamed: {result['slowdown']}")
    assert result["forecast"]["decode_tokens_per_s"] > 0
    assert 0 < result["bandwidth_share"] < 2


def held_back(home: Path, model: Path) -> dict:
    """Return an answer under a quota that it spent."""
    # Where others take CPUs too, half of them may be more than is left: then a smaller share.
    for share in (0.5, 0.25, 0.125):
        try:
            with cpu_group(CPUS * share) as group:
                result = answered(home, model, "--threads", CPUS, before=group.join)
                if group.num_throttled >= 5:
                    return result
        except NoCpuGroupError as error:
            pytest.skip(f"no CPU cgroup of our own ({error}): the quota was not checked")
    pytest.skip("others left less of the CPUs than any quota, so that none was reached")


def test_a_halved_quota_is_named(home, model):
    # A window before the quota is spent may truly have met others, but not each time.
    for _ in range(3):
        result = held_back(home, model)
        assert "quota" in causes(result), result["slowdown"]
        if not blames_waiting(result):
            return
    pytest.fail(f"others were blamed: {result['slowdown']}")


def test_doubled_threads_are_named(home, model):
    result = answered(home, model, "--threads", 2 * CPUS)
    assert "threads" in causes(result)
    assert not blames_waiting(result)


def test_a_cold_page_cache_is_named(home, model, tmp_path):
    copy = tmp_path / "cold.gguf"
    shutil.copyfile(model, copy)
    forget(copy)
    assert "page cache" in causes(answered(home, copy))
    assert "page cache" not in causes(answered(home, copy)), "the second load is warm"


def test_neighbours_that_stream_memory_are_named(home, model):
    with neighbours(CPUS):
        result = answered(home, model, "--threads", CPUS)
    assert causes(result) & {"tenant", "memory"}
    assert not causes(result) & {"quota", "threads", "page cache"}
