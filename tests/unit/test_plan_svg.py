"""The picture of a plan: well-formed, its numbers the plan's, nothing above the total."""

import re
from xml.etree import ElementTree

import pytest

from golden.regenerate import plans
from golden.spec_files import NAMES, load
from tonnage.backends.cpu.layout.plan import make_plan
from tonnage.cli.render.plan_svg import render_svg
from tonnage.cli.render.timeline import PHASES, phase_peaks, timelines
from tonnage.core.plan import Plan
from tonnage.core.units import format_bytes
from tonnage.core.workload import Workload

PLANS = {
    **{name: make_plan(load(name), Workload(2048, 2)) for name in NAMES},
    "tiny": plans()["gemma2"],
}
NAMESPACE = {"svg": "http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("name", PLANS)
def test_the_numbers_are_the_plans(name: str) -> None:
    plan = PLANS[name]
    root = ElementTree.fromstring(render_svg(f"<{name} & co>", plan, plan.total_bytes + 5))
    assert root.get("data-total-bytes") == str(plan.total_bytes)
    assert root.get("data-budget-bytes") == str(plan.total_bytes + 5)
    areas = root.findall("svg:polygon", NAMESPACE)
    drawn = {area.get("data-item"): int(area.get("data-planned-bytes") or 0) for area in areas}
    assert drawn == {item.name: item.planned_bytes for item in plan.items}
    words = [text.text for text in root.findall("svg:text", NAMESPACE)]
    for item in plan.items:
        assert item.name in words
        assert format_bytes(item.planned_bytes) in words
    assert f"total {format_bytes(plan.total_bytes)}" in words
    peaks = [text.get("data-peak-bytes") for text in root.findall("svg:text", NAMESPACE)]
    assert [peak for peak in peaks if peak] == [str(peak) for peak in phase_peaks(plan)]


def heights(plan: Plan) -> list[float]:
    """Return the tops of the uppermost area, and the line of the total, as y of the picture."""
    root = ElementTree.fromstring(render_svg("m", plan, plan.total_bytes))
    points = [area.get("points") or "" for area in root.findall("svg:polygon", NAMESPACE)]
    tops = [float(pair.split(",")[1]) for text in points for pair in text.split()]
    (total,) = re.findall(
        r"M\d+ ([\d.]+)H",
        next(p.get("d") or "" for p in root.iter() if p.get("class") == "line total"),
    )
    return [min(tops), float(total)]


@pytest.mark.parametrize("name", PLANS)
def test_nothing_stands_above_the_total(name: str) -> None:
    top, total = heights(PLANS[name])
    assert top >= total - 0.01


@pytest.mark.parametrize("name", PLANS)
def test_an_item_comes_to_what_was_planned_and_never_more(name: str) -> None:
    plan = PLANS[name]
    for course in timelines(plan):
        sizes = [size for pair in course.bytes_at for size in pair]
        assert len(course.bytes_at) == len(PHASES)
        assert max(sizes) == course.item.planned_bytes
        assert min(sizes) >= 0
    load = sum(item.planned_bytes for item in plan.items if item.kind == "load")
    assert phase_peaks(plan)[-1] == plan.total_bytes - load
    assert max(phase_peaks(plan)) <= plan.total_bytes


def test_light_and_dark_and_text_as_text() -> None:
    text = render_svg("m", PLANS["tiny"], 10**12)
    assert "prefers-color-scheme: dark" in text
    assert "<path" in text
    assert "budget" not in re.sub(r"<style>.*?</style>|data-budget-bytes", "", text, flags=re.S)
