"""How a plan would run on hardware that is not here, for `tonnage plan --machine`."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from tonnage.core.hardware import Device, Hardware
from tonnage.core.plan import Plan
from tonnage.core.units import format_bytes
from tonnage.machine.hardware import load_shipped
from tonnage.planner.cost.whatif import Demand, DeviceForecast, Rate, demand_of, forecast

_BASIS = {
    "decode": "measured on this machine",
    "stream": "what a plain read reaches there",
    "prior": "the median of other machines",
}

_ENERGY = {
    "modelled": "its bytes and the static power",
    "bytes alone": "its bytes alone",
    "full power": "at the most power that the machine draws",
}


def print_machines(*, as_json: bool) -> None:
    """Print the machines that are known by name."""
    catalog = load_shipped()
    sys.stdout.write(_list_json(catalog) if as_json else _list_text(catalog))


def machine_json(plan: Plan, device: Device, catalog: Hardware) -> dict[str, Any]:
    """Return what is known of a device, what the plan asks of it, and the forecast."""
    demand = demand_of(plan)
    found = _forecast(plan, device, catalog)
    return {
        **asdict(device),
        **_demand_json(demand),
        "fits": found.home is not None,
        **asdict(found),
        "sources": _addresses(device, catalog.sources),
    }


def machine_lines(plan: Plan, device: Device, catalog: Hardware) -> Iterator[str]:
    """Yield the forecast for a reader."""
    demand = demand_of(plan)
    yield (
        f"{device.name}: {device.title}; {format_bytes(round(demand.decode.read_bytes))} and "
        f"{demand.decode.macs / 1e9:,.2f} G multiply-adds per decoded token"
    )
    for label, line in _lines(demand, device, _forecast(plan, device, catalog)):
        yield f"  {label:<8} {line}"


def _forecast(plan: Plan, device: Device, catalog: Hardware) -> DeviceForecast:
    assert catalog.prior is not None
    return forecast(demand_of(plan), device, catalog.prior)


def _demand_json(demand: Demand) -> dict[str, Any]:
    return {
        "prompt_tokens": demand.prefill.tokens,
        "held_bytes": demand.held_bytes,
        "decode_read_bytes": round(demand.decode.read_bytes),
        "decode_macs": demand.decode.macs,
        "prefill_read_bytes": round(demand.prefill.read_bytes),
        "prefill_macs": demand.prefill.macs,
    }


def _addresses(device: Device, sources: Mapping[str, str]) -> dict[str, str]:
    """Return id -> address of all sources of a device; a user's own file may have others."""
    origins = [tier.origin for tier in device.tiers]
    origins += [peak.origin for peak in device.peaks] + [link.origin for link in device.links]
    origins += [price.origin for price in device.prices] + [s.origin for s in device.shares]
    ids = {source for origin in origins for source in origin.sources}
    ids.update(device.power_sources, *(tier.energy_sources for tier in device.tiers))
    return {source: sources[source] for source in sorted(ids) if source in sources}


def _lines(demand: Demand, device: Device, found: DeviceForecast) -> Iterator[tuple[str, str]]:
    if found.home is None:
        yield "fits", _shortfall(device, found)
    else:
        yield "fits", f"in {found.home}{_capacity(device, found.home)}"
    if found.decode:
        bound = "likely below " if found.likely_too_fast else ""
        yield "decode", f"{bound}{_rate(found.decode, found)}"
    if found.prefill:
        tokens = f"{demand.prefill.tokens} tokens in {found.number_format}"
        yield "prefill", f"{_rate(found.prefill, found)}; {tokens}"
    if found.joules_per_token is not None:
        energy = f"{found.joules_per_token:.2g} J per decoded token"
        yield "energy", f"{energy} ({_ENERGY[found.joules_basis or 'modelled']})"
    if found.usd_per_million_tokens:
        low, high = found.usd_per_million_tokens
        dates = sorted(price.date for price in device.prices)
        bound = "likely above " if found.likely_too_fast else ""
        span = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
        plural = "offer" if len(dates) == 1 else "offers"
        yield (
            "cost",
            (
                f"{bound}{_span(low, high)} USD per million decoded tokens, one sequence at a time "
                f"({len(dates)} {plural}, {span})"
            ),
        )
    for sentence in found.unknown:
        yield "unknown", sentence


def _rate(rate: Rate, found: DeviceForecast) -> str:
    if rate.bottleneck == "compute":
        limit = f"compute at {found.compute_share:.0%} of its peak"
    else:
        basis = _BASIS[found.share_basis]
        limit = f"{rate.bottleneck} at {found.bandwidth_share:.0%} of its bandwidth ({basis})"
    return (
        f"{_number(rate.tokens_per_s)} tokens/s, limited by {limit}; "
        f"{_number(rate.ceiling_tokens_per_s)} at full peaks"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _span(low: float, high: float) -> str:
    return f"{low:,.3g}" if low == high else f"{low:,.3g} to {high:,.3g}"


def _capacity(device: Device, tier_name: str) -> str:
    tier = next(tier for tier in device.tiers if tier.name == tier_name)
    return "" if tier.capacity_bytes is None else f" ({format_bytes(tier.capacity_bytes)})"


def _shortfall(device: Device, found: DeviceForecast) -> str:
    link = max(device.links, key=lambda link: link.bytes_per_s, default=None)
    joined = f", joined by {link.name} at {link.bytes_per_s / 1e9:,.0f} GB/s" if link else ""
    return (
        f"no: {found.short_bytes:,} bytes ({format_bytes(found.short_bytes)}) short; "
        f"{found.devices_needed} of them would hold it{joined}"
    )


def _list_json(catalog: Hardware) -> str:
    import json

    devices = [asdict(device) for device in catalog.devices.values()]
    return json.dumps({"machines": devices, "sources": dict(catalog.sources)}) + "\n"


def _list_text(catalog: Hardware) -> str:
    rows = [("NAME", "MEMORY", "GB/s", "WHAT")]
    for device in catalog.devices.values():
        homes = [tier for tier in device.tiers if tier.role != "cache"]
        sizes = [format_bytes(t.capacity_bytes) if t.capacity_bytes else "?" for t in homes]
        speeds = [
            f"{t.bandwidth_bytes_per_s / 1e9:,.0f}" if t.bandwidth_bytes_per_s else "?"
            for t in homes
        ]
        rows.append((device.name, " + ".join(sizes), " + ".join(speeds), device.title))
    names, sizes_width, speeds_width = (max(len(row[i]) for row in rows) for i in range(3))
    return "".join(
        f"{name:<{names}}  {size:>{sizes_width}}  {speed:>{speeds_width}}  {what}\n"
        for name, size, speed, what in rows
    )
