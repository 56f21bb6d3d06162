"""The files of deploy/: what they ask for exists, and what they state twice is the same."""

import json
import re
from pathlib import Path

import pytest

from tonnage.server.http.app import ROUTES
from tonnage.server.observe.metric_names import METRICS

DEPLOY = Path(__file__).parents[2] / "deploy"
_SUFFIX = re.compile(r"_(?:bucket|sum|count)$")


def metrics_of(text: str) -> set[str]:
    """Return the metrics of ours in `text`; a series of a histogram is its histogram."""
    names = set(re.findall(r"\btonnage_[a-z_]+", text))
    return {name if name in METRICS else _SUFFIX.sub("", name) for name in names}


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    dashboard = json.loads((DEPLOY / "grafana.json").read_text("utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(asked) > 20
    assert metrics_of(" ".join(asked)) <= METRICS.keys()
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_rules_ask_for_metrics_and_rules_that_exist() -> None:
    text = (DEPLOY / "tonnage.rules.yml").read_text("utf-8")
    assert metrics_of(text) <= METRICS.keys()
    recorded = set(re.findall(r"record: (\S+)", text))
    assert set(re.findall(r"\btonnage:[\w:]+", text)) == recorded


@pytest.mark.parametrize("name", ["Caddyfile", "nginx.conf", "kubernetes.yaml", "Containerfile"])
def test_paths_that_are_asked_for_or_held_back_are_routes(name: str) -> None:
    text = (DEPLOY / name).read_text("utf-8")
    paths = set(re.findall(r"(?<![\w.])/(?:metrics|memory|models/\w+|health|ready)\b", text))
    assert paths
    assert paths <= ROUTES.keys()


def test_no_budget_is_stated_beside_a_limit() -> None:
    """The limit of the container, or of the unit, is the budget."""
    for name in ("Containerfile", "tonnage.service", "kubernetes.yaml"):
        lines = (DEPLOY / name).read_text("utf-8").splitlines()
        assert not [line for line in lines if "--memory" in line and "#" not in line]
