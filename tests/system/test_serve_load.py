"""64 connections that ask without pause: no error but 429, memory inside the budget.

TONNAGE_LOAD_SECONDS sets how long for the real model.
"""

import os
from pathlib import Path

import pytest

from support.http_load import HttpLoad
from support.live_server import write_chat_model
from support.models import real_model
from support.serve_process import fetched, serving

SECONDS = float(os.environ.get("TONNAGE_LOAD_SECONDS", "3"))


def loaded(folder: Path, model: Path, seconds: float, *args: object) -> HttpLoad:
    """Put the load on a server and check what must hold afterwards."""
    with serving(folder, model, "--alias", "m", "--max-waiting", 32, *args) as (process, url):
        load = HttpLoad(int(url.rpartition(":")[2]), "m")
        load.run(64, seconds)
        memory = fetched(f"{url}/memory")
        peak, planned = (memory[f"{name}_bytes"] / 2**20 for name in ("peak_rss", "total"))
        told = f"{dict(load.statuses)}, {dict(load.kinds)}, peak {peak:.1f} of {planned:.1f} MiB"
        print(f"\n  {told}", end="")
        assert load.broken == []
        assert load.statuses.keys() <= {200, 429}
        assert load.statuses[200] > 64
        assert memory["peak_rss_bytes"] <= memory["total_bytes"] <= memory["budget_bytes"]
        assert memory["queue"] == {"waiting": 0, "running": 0}
        assert memory["pages"]["used"] == 0
        assert process.poll() is None
    return load


def test_64_connections(tmp_path, capsys):
    model = write_chat_model(tmp_path / "hf")
    with capsys.disabled():
        load = loaded(tmp_path, model, 2, "--memory", "120MiB", "--context", 1024)
    assert load.statuses[429] > 0


@pytest.mark.slow
def test_64_connections_of_a_real_model(tmp_path, capsys):
    with capsys.disabled():
        load = loaded(tmp_path, real_model(), SECONDS, "--memory", "300MiB")
    assert load.statuses[429] > 0
