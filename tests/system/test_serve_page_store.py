"""What pages on disk were asked, in /metrics and /memory: found, not found, damaged."""

import http.client
import json
import re
from pathlib import Path

import pytest

from support.live_server import NAME, Live, live, write_chat_model
from tonnage.engine.build import ServingOptions
from tonnage.engine.disk_tier import DiskOptions
from tonnage.engine.engine import Engine

BODY = {"model": NAME, "prompt": "word " * 60, "max_tokens": 1, "temperature": 0}
NUM_PAGES = 4  # full pages of 64 tokens, one byte each


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_chat_model(tmp_path_factory.mktemp("model") / "hf")


def ask(server: Live, path: str, body: object = None) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    data = None if body is None else json.dumps(body)
    headers = {} if body is None else {"Content-Type": "application/json"}
    connection.request("GET" if body is None else "POST", path, data, headers)
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    assert answer.status == 200, content
    return content


def counted(model: Path, folder: Path | None) -> dict[str, int]:
    """Answer BODY with a fresh engine; return its counters of /metrics, which /memory has too."""
    disk = None if folder is None else DiskOptions(1 << 30, folder)
    options = {"context": 512, "threads": 1, "kv_format": "f16"}
    with (
        Engine.open(str(model), serving=ServingOptions(disk=disk), **options) as engine,
        live(engine) as server,
    ):
        ask(server, "/v1/completions", BODY)
        memory = json.loads(ask(server, "/memory"))
        text = ask(server, "/metrics")
    found = re.findall(r'^tonnage_page_store_(\w+)_total\{model="tiny"\} (\d+)$', text, re.M)
    counters = {name: int(value) for name, value in found}
    told = memory.get("page_store", {})
    for name in ("hits", "misses"):
        assert told.get(name) == counters.get(name)
    assert told.get("damaged") == counters.get("damaged_pages")
    return counters


def test_pages_on_disk_are_counted_as_found_as_missing_and_as_damaged(model, tmp_path):
    first = counted(model, tmp_path)
    assert (first["hits"], first["damaged_pages"]) == (0, 0)
    files = sorted(tmp_path.rglob("*.page"))
    assert files
    second = counted(model, tmp_path)
    assert second["hits"] >= NUM_PAGES
    assert (second["misses"], second["damaged_pages"]) == (0, 0)
    for path in files:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    third = counted(model, tmp_path)
    assert third["damaged_pages"] >= 1
    assert third["misses"] >= third["damaged_pages"]
    assert third["hits"] == 0


def test_without_pages_on_disk_nothing_is_told_of_them(model):
    assert counted(model, None) == {}
