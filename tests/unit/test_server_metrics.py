"""Metrics: names by Prometheus' rules (prometheus.io/docs/practices/naming), text by its format."""

import re

import pytest

from tonnage.core.page_counts import PageCounts
from tonnage.server.observe.metric_names import METRICS, OLD_NAMES
from tonnage.server.observe.metrics import Histogram, Metrics, Samples, emit_page_store

# Units that are no base units, and shortened ones.
WRONG_UNITS = re.compile(
    r"_(s|ms|us|ns|sec|milliseconds|minutes|hours|kib|mib|kb|mb|byte|second|percent|share)(_|$)"
)


@pytest.mark.parametrize("name", METRICS)
def test_names_keep_the_rules(name):
    metric = METRICS[name]
    assert re.fullmatch(r"tonnage_[a-z][a-z0-9_]*", name)
    assert name.endswith("_total") is (metric.kind == "counter")
    assert not re.search(r"_(sum|count|bucket|info)$", name)
    per_unit = name.replace("_per_second", "")
    assert not WRONG_UNITS.search(per_unit)
    if metric.kind == "histogram":
        assert name.endswith("_seconds")
    assert metric.help.endswith(".")
    assert "\n" not in metric.help


def test_old_names_lead_to_names_that_are_there():
    for old, (new, _) in OLD_NAMES.items():
        assert old not in METRICS
        assert new in METRICS
        assert old.endswith("_total") is (METRICS[new].kind == "counter")


def parsed(text: str) -> dict[str, float]:
    """Return the samples of a text; every name has a HELP and a TYPE line before, and once."""
    known: dict[str, float] = {}
    current, seen = "", set()
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current = line.split()[2]
            assert current not in seen
            seen.add(current)
            assert line.removeprefix(f"# HELP {current} ").strip()
        elif line.startswith("# TYPE "):
            assert line.split()[2] == current
            assert line.split()[3] in ("counter", "gauge", "histogram")
        else:
            name, value = re.fullmatch(r"(\S.*) (\S+)", line).groups()
            assert re.fullmatch(f"{current}(_bucket|_sum|_count)?", name.partition("{")[0])
            known[name] = float(value)
    return known


def test_a_text_has_help_and_type_before_all_samples_of_a_name():
    samples = Samples()
    samples.add("tonnage_kv_pages", 3, model="a", state="free")
    samples.add("tonnage_connections", 1)
    samples.add("tonnage_kv_pages", 4, model="b", state="free")
    samples.add("tonnage_pages_free", 3, model="a")
    lines = samples.text().splitlines()
    assert lines[:2] == [
        f"# HELP tonnage_kv_pages {METRICS['tonnage_kv_pages'].help}",
        "# TYPE tonnage_kv_pages gauge",
    ]
    assert "# HELP tonnage_pages_free Goes with the next version; use tonnage_kv_pages." in lines
    assert parsed(samples.text()) == {
        'tonnage_kv_pages{model="a",state="free"}': 3,
        'tonnage_kv_pages{model="b",state="free"}': 4,
        "tonnage_connections": 1,
        'tonnage_pages_free{model="a"}': 3,
    }


def test_a_name_that_nobody_has_described_is_no_metric():
    samples = Samples()
    samples.add("tonnage_unknown", 1)
    with pytest.raises(KeyError):
        samples.text()


def test_values_of_labels_are_escaped():
    samples = Samples()
    samples.add("tonnage_connections", 1, model='a"b\\c\nd')
    assert r'{model="a\"b\\c\nd"} 1' in samples.text()


def test_a_histogram_counts_upwards():
    histogram = Histogram()
    for seconds in (0.004, 0.01, 0.3, 500.0):
        histogram.add(seconds)
    samples = Samples()
    histogram.emit(samples, "tonnage_model_load_seconds", "m")
    known = parsed(samples.text())
    name = "tonnage_model_load_seconds"
    assert known[f'{name}_bucket{{model="m",le="0.01"}}'] == 2
    assert known[f'{name}_bucket{{model="m",le="0.5"}}'] == 3
    assert known[f'{name}_bucket{{model="m",le="+Inf"}}'] == 4
    assert known[f'{name}_count{{model="m"}}'] == 4
    assert known[f'{name}_sum{{model="m"}}'] == pytest.approx(500.314, rel=1e-5)
    counts = [value for key, value in known.items() if "_bucket" in key]
    assert counts == sorted(counts)


def test_tokens_of_small_models_fall_into_different_buckets():
    seen = set()
    for milliseconds in (0.8, 1.2, 1.8, 2.2, 2.8, 3.5, 5, 8, 12, 20, 40, 90):
        metrics = Metrics()
        metrics.per_token.add(milliseconds * 1e-3)
        seen.add(metrics.per_token.counts.index(1))
    assert len(seen) == 12


def test_a_model_tells_all_that_was_counted_of_it():
    metrics, samples = Metrics(), Samples()
    metrics.prompt_tokens, metrics.cancelled = 7, 2
    metrics.emit(samples, "m")
    known = parsed(samples.text())
    assert known['tonnage_prompt_tokens_total{model="m"}'] == 7
    assert known['tonnage_cancelled_requests_total{model="m"}'] == 2


def test_pages_on_disk_are_told_where_there_are_any():
    samples = Samples()
    emit_page_store(samples, None, "m")
    assert samples.text() == ""
    counts = PageCounts(hits=1, misses=2, damaged=3, written=4, not_written=5, evicted=6)
    emit_page_store(samples, counts, "m")
    assert parsed(samples.text()) == {
        f'tonnage_page_store_{name}_total{{model="m"}}': value
        for name, value in (
            ("hits", 1), ("misses", 2), ("damaged_pages", 3), ("written_pages", 4),
            ("unwritten_pages", 5), ("evicted_pages", 6),
        )
    }  # fmt: skip
