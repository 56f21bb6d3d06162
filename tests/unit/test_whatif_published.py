"""The two-term forecast beside what was published; the errors found are those that are stated."""

from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from support.published_rates import PUBLISHED, Published
from tonnage.cli.render import notes
from tonnage.core.hardware import Device, Hardware, Prior
from tonnage.machine.hardware import load_shipped
from tonnage.planner.cost.whatif import CHECKED_STEP_S, Demand, Load, forecast

# Rounded up from what the table below prints.
OWN_MEDIAN, OWN_WORST = 0.09, 0.52
BLIND_MEDIAN, BLIND_WORST = 0.18, 1.02


@pytest.fixture(scope="module")
def catalog() -> Hardware:
    return load_shipped()


def device_of(point: Published, catalog: Hardware) -> Device:
    """Return the device, with the bandwidth of the part that was measured."""
    device = catalog.devices[point.device]
    if point.bandwidth is None:
        return device
    changed = [
        tier if tier.role == "cache" else replace(tier, bandwidth_bytes_per_s=point.bandwidth)
        for tier in device.tiers
    ]
    return replace(device, tiers=tuple(changed))


def reached(point: Published, catalog: Hardware) -> float:
    device = device_of(point, catalog)
    home = next(tier for tier in device.tiers if tier.role != "cache")
    return point.read_bytes * point.tokens_per_s / home.bandwidth_bytes_per_s


def error(point: Published, device: Device, prior: Prior) -> float:
    # A point that states its bandwidth has no size to hold; 1 GB fits everywhere.
    held = 10**9 if point.size == "bandwidth stated" else int(point.read_bytes)
    work = Load(1, point.read_bytes, 0)
    rate = forecast(Demand(held, work, work, ("fp32",)), device, prior).decode
    assert rate is not None
    return rate.tokens_per_s / point.tokens_per_s - 1


def blind_prior(device: str, catalog: Hardware) -> Prior:
    """Return the prior as it would be if this device had never been measured."""
    others = {p.device for p in PUBLISHED} - {device}
    medians = [catalog.devices[name].share("decode").value for name in others]
    return Prior(median(medians), catalog.prior.compute_share)


def test_shares_in_the_catalog_are_the_medians_of_what_was_published(catalog):
    assert catalog.prior is not None
    for name in {point.device for point in PUBLISHED}:
        # The M3 Ultra runs as an M2 Ultra of other bandwidth; its share belongs to neither.
        points = [p for p in PUBLISHED if p.device == name and "M3" not in p.what]
        share = catalog.devices[name].share("decode").value
        assert share == pytest.approx(median(reached(p, catalog) for p in points), abs=6e-4), name
    measured = [d.share("decode") for d in catalog.devices.values() if d.share("decode")]
    assert {d.name for d in catalog.devices.values() if d.share("decode")} == {
        point.device for point in PUBLISHED
    }
    assert catalog.prior.decode_share == pytest.approx(median(s.value for s in measured), abs=6e-4)
    compute = [d.share("compute").value for d in catalog.devices.values() if d.share("compute")]
    assert catalog.prior.compute_share == pytest.approx(median(compute), abs=6e-4)


def test_errors_are_what_is_stated(catalog, capsys):
    own, blind = [], []
    lines = [f"\n  {'machine':24}{'published':26}{'size':18}{'share':>6}{'own':>7}{'blind':>7}"]
    for point in PUBLISHED:
        device = device_of(point, catalog)
        own.append(error(point, device, catalog.prior))
        unmeasured = replace(device, shares=())
        blind.append(error(point, unmeasured, blind_prior(point.device, catalog)))
        lines.append(
            f"  {point.device:24}{point.what:26}{point.size:18}{reached(point, catalog):6.2f}"
            f"{own[-1]:+7.0%}{blind[-1]:+7.0%}"
        )
    figures = [f(map(abs, errors)) for errors in (own, blind) for f in (median, max)]
    lines.append("  own: median {:.1%}, worst {:.1%}; blind: {:.1%}, {:.1%}".format(*figures))
    with capsys.disabled():
        print("\n".join(lines))
    bounds = (OWN_MEDIAN, OWN_WORST, BLIND_MEDIAN, BLIND_WORST)
    for found, bound in zip(figures, bounds, strict=True):
        assert bound - 0.01 < found <= bound


def test_help_and_decision_state_these_figures():
    record = "docs/decisions/0024-what-if-on-other-machines.md"
    decision = Path(__file__).parents[2] / record
    for text in (notes.PLAN_NOTES, decision.read_text("utf-8")):
        flat = " ".join(text.split())
        assert f"{len(PUBLISHED)} of them" in flat
        assert f"median error is {BLIND_MEDIAN:.0%} and the worst {BLIND_WORST:.0%}" in flat
        assert f"{OWN_MEDIAN:.0%} and {OWN_WORST:.0%} with it" in flat


def test_the_shortest_step_that_was_checked_is_the_stated_one():
    rates = [p.tokens_per_s for p in PUBLISHED if p.size != "bandwidth stated"]
    assert pytest.approx(1 / max(rates), rel=0.01) == CHECKED_STEP_S


def test_every_source_is_one_of_the_catalog(catalog):
    assert {point.source for point in PUBLISHED} <= set(catalog.sources)
