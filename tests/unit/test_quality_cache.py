"""Audits kept as files: found again for the same weights, text and kernels, and for no others."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tonnage.core.errors import CacheError
from tonnage.core.quality import AuditResult, Comparison, Estimate
from tonnage.quality import cached_audits
from tonnage.store import audits as cache
from tonnage.store.audits import AuditKey, find, identity, store

RESULT = AuditResult(
    model="m", precision=None, text="t", text_sha256="ab", num_chunks=2, num_scored=510,
    perplexity=Estimate(9.5, 9.0, 10.0), isa="avx2", seconds=1.5,
    comparison=Comparison(
        reference="r", reference_precision="8bit", perplexity=Estimate(9.0, None, None),
        mean_kld=Estimate(0.0, 0.0, 0.5), kld_p999=0.25, top1_agreement=0.875,
        kld_median=0.01, kld_p99=0.125, top5_agreement=0.75,
    ),
    kv_format="int8", mix="0123abcd", weights="4.5 bits (Q4_K)",
)  # fmt: skip


@pytest.fixture
def environ(tmp_path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


@pytest.fixture
def key(tmp_path) -> AuditKey:
    for name in ("m.gguf", "r.gguf"):
        (tmp_path / name).write_bytes(name.encode())
    return AuditKey(tmp_path / "m.gguf", "", tmp_path / "r.gguf", "8b17", "ab", 2)


def only_file(environ: dict[str, str]) -> Path:
    (file,) = Path(environ["XDG_CACHE_HOME"], "tonnage", "audits").iterdir()
    return file


def test_what_is_stored_is_found(key, environ):
    assert find(key, environ) is None
    assert cached_audits(key.model, environ=environ) == []
    store(key, RESULT, environ)
    assert find(key, environ) == RESULT
    assert cached_audits(str(key.model), environ=environ) == [RESULT]
    assert cached_audits(key.reference, environ=environ) == []
    assert only_file(environ).stat().st_size < 2048


def test_without_a_reference(key, environ):
    alone = replace(key, reference=None, reference_mix="")
    store(alone, replace(RESULT, comparison=None), environ)
    assert find(alone, environ) == replace(RESULT, comparison=None)
    assert find(key, environ) is None


def test_the_audit_of_most_tokens_comes_first(key, environ):
    longer = replace(RESULT, num_scored=5100, num_chunks=20)
    store(key, RESULT, environ)
    store(replace(key, num_chunks=20), longer, environ)
    assert cached_audits(key.model, environ=environ) == [longer, RESULT]


@pytest.mark.parametrize(
    "change",
    [{"mix": "4b17"}, {"reference_mix": ""}, {"text_sha256": "cd"},
     {"num_chunks": 3}, {"reference": None}, {"kv_format": "int8"},
     {"reference_kv_format": "int8"}],
)  # fmt: skip
def test_another_question_is_a_miss(key, environ, change):
    store(key, RESULT, environ)
    assert find(replace(key, **change), environ) is None


@pytest.mark.parametrize("which", ["model", "reference"])
def test_other_weights_are_a_miss(key, environ, which):
    store(key, RESULT, environ)
    os.utime(getattr(key, which), ns=(1, 1))
    assert find(key, environ) is None


def test_other_kernels_are_a_miss(key, environ, monkeypatch):
    store(key, RESULT, environ)
    monkeypatch.setattr(cache, "kernels_version", lambda: "others")
    assert find(key, environ) is None
    assert cached_audits(key.model, environ=environ) == []


def test_a_pulled_file_is_known_by_its_record(key, tmp_path):
    record = tmp_path / "m.gguf.sha256"
    record.write_text(f"{'5' * 64}  m.gguf\n")
    link = tmp_path / "link.gguf"
    link.symlink_to(key.model)
    assert identity(key.model) == identity(link) == f"sha256:{'5' * 64}"
    # Written over after it was checked.
    later = record.stat().st_mtime_ns + 1_000_000
    os.utime(key.model, ns=(later, later))
    assert identity(key.model).startswith("m.gguf:6:")
    os.utime(key.model, ns=(1, 1))
    record.write_text("what is this")
    assert identity(key.model) == "m.gguf:6:1"


def test_a_folder_is_known_by_its_files(tmp_path):
    for name in ("config.json", "model.safetensors", "README.md"):
        (tmp_path / name).write_bytes(b"x")
    before = identity(tmp_path)
    os.utime(tmp_path / "README.md", ns=(1, 1))
    assert identity(tmp_path) == before
    os.utime(tmp_path / "config.json", ns=(1, 1))
    assert identity(tmp_path) != before


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b"null", b"{}", b"[" * 60000, b'"' + b"x" * 100_000,
     json.dumps({"comparison": None, "perplexity": {"value": "x", "low": 1, "high": 2}}).encode(),
     json.dumps({"comparison": None, "perplexity": {"value": 10**400, "low": 1, "high": 2}})
     .encode()],
)  # fmt: skip
def test_a_damaged_file_is_a_miss(key, environ, content):
    store(key, RESULT, environ)
    only_file(environ).write_bytes(content)
    assert find(key, environ) is None
    assert cached_audits(key.model, environ=environ) == []


def test_a_model_that_is_gone_has_no_audits(key, environ):
    store(key, RESULT, environ)
    key.model.unlink()
    assert cached_audits(key.model, environ=environ) == []


def test_a_folder_that_cannot_be_made_is_an_error(key, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="XDG_CACHE_HOME"):
        store(key, RESULT, {"XDG_CACHE_HOME": str(tmp_path / "file")})


def test_two_that_store_at_once_leave_one_whole_audit(key, environ, monkeypatch):
    real, others = os.fsync, [replace(RESULT, seconds=9.0)]

    def fsync(fd: int) -> None:
        if others:
            store(key, others.pop(), environ)
        real(fd)

    monkeypatch.setattr("tonnage.store.cache.os.fsync", fsync)
    store(key, RESULT, environ)
    assert find(key, environ) == RESULT
    only_file(environ)


def test_a_full_disk_leaves_nothing_behind(key, environ, monkeypatch):
    def fsync(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tonnage.store.cache.os.fsync", fsync)
    with pytest.raises(CacheError, match="full"):
        store(key, RESULT, environ)
    assert not any(Path(environ["XDG_CACHE_HOME"], "tonnage", "audits").iterdir())
