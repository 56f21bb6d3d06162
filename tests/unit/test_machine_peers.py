"""The comparison with llama.cpp, run against two small stand-ins."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

PEERS = Path(__file__).parents[2] / "bench" / "peers.py"

TONNAGE = """
import json, sys
if sys.argv[1] == "run":
    sys.exit(0)
assert sys.argv[1] == "bench" and "--json" in sys.argv
rows = [{"rows": r, "tokens_per_s": 300.0 * r, "bandwidth_share": 0.5, "peak_share": 0.1}
        for r in (1, 8)]
prefill = [{"tokens": 512, "tokens_per_s": 4000.0, "peak_share": 0.4}]
print(json.dumps({"decode": rows, "prefill": prefill}, indent=1))
"""
WORKER = """
import json, sys
if "--one-token" in sys.argv:
    sys.exit(0)
rows = [{"rows": r, "tokens_per_s": 150.0 * r} for r in (1, 8)]
print("noise")
print(json.dumps({"build": "fake 1", "system": "AVX2 = 1", "decode": rows,
                  "prefill": [{"tokens": 512, "tokens_per_s": 1000.0}]}))
"""


@pytest.fixture
def peers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("peers", PEERS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["peers"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def stand_ins(tmp_path: Path) -> list[str]:
    """Arguments of peers.py that replace both programs."""
    (tmp_path / "tonnage.py").write_text(TONNAGE)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    script = tmp_path / "peer-python"
    (tmp_path / "worker.py").write_text(WORKER)
    script.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} {tmp_path}/worker.py "$@"\n')
    script.chmod(0o755)
    tonnage = f"{sys.executable} {tmp_path}/tonnage.py"
    model = str(tmp_path / "model.gguf")
    return [model, "--peer-python", str(script), "--tonnage", tonnage, "--runs", "2"]


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PEERS), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_ratios_of_medians(stand_ins: list[str]) -> None:
    done = run([*stand_ins, "--json"])
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    ratios = {row["figure"]: row["ratio"] for row in report["figures"]}
    assert ratios["decode, 1 rows"] == 2.0
    assert ratios["prefill 512"] == 4.0
    assert ratios["cold start, 1 token"] > 0
    assert ratios["peak RSS, 1 token"] > 0
    assert len(report["tonnage_runs"]) == len(report["llamacpp_runs"]) == 2
    shares = {row["figure"]: row["median"] for row in report["shares"]}
    assert shares["decode, 1 rows, bandwidth_share"] == 0.5


def test_table(stand_ins: list[str]) -> None:
    done = run(stand_ins)
    assert done.returncode == 0, done.stderr
    line = next(x for x in done.stdout.splitlines() if x.startswith("decode, 8 rows, tok/s"))
    assert line.split()[4:] == [
        "2400.00", "2400.00..2400.00", "1200.00", "1200.00..1200.00", "2.00", "2.00..2.00",
    ]  # fmt: skip


def test_a_failing_side_is_a_sentence(stand_ins: list[str], tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text("raise SystemExit('no such model')")
    done = run(stand_ins)
    assert done.returncode == 2
    assert "no such model" in done.stderr
    assert "Traceback" not in done.stderr
    assert run(["/absent.gguf", "--peer-python", "x"]).returncode == 2


def test_summary_uses_medians_and_pairs(peers: ModuleType) -> None:
    figures = {
        "decode, 1 rows": peers.Series("tok/s", [10.0, 30.0, 20.0], [10.0, 10.0, 5.0]),
        "cold start": peers.Series("s", [1.0], [3.0]),
        "prefill 64": peers.Series("tok/s", [1.0], []),
    }
    rows = {row["figure"]: row for row in peers.summary(figures)}
    assert set(rows) == {"decode, 1 rows", "cold start"}
    assert rows["decode, 1 rows"]["ratio"] == 2.0
    assert (rows["decode, 1 rows"]["ratio_min"], rows["decode, 1 rows"]["ratio_max"]) == (1.0, 4.0)
    assert rows["cold start"]["ratio"] == 3.0


def test_whole_process_is_timed_and_weighed(peers: ModuleType) -> None:
    code = "import time; x = bytearray(64 << 20); time.sleep(0.2)"
    seconds, peak = peers.run_whole([sys.executable, "-c", code])
    assert seconds >= 0.2
    assert peak >= 64 << 20
    with pytest.raises(peers.PeerError, match="ended with 3"):
        peers.run_whole([sys.executable, "-c", "raise SystemExit(3)"])
