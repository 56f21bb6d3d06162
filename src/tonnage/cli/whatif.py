"""`tonnage whatif`: how a model would run on hardware that is not here."""

import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from tonnage.cli.terminal import LateProgress
from tonnage.core.errors import RequestError
from tonnage.core.hardware import Device, Hardware
from tonnage.core.plan import Plan
from tonnage.core.units import format_bytes
from tonnage.machine.hardware import find_device, load_shipped
from tonnage.planner.whatif import Demand, Forecast, Rate, demand_of, forecast

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


def whatif(args: Namespace) -> int:
    """Print the forecast of a model on each machine that was named, or the machines' names."""
    catalog = load_shipped()
    if args.list:
        sys.stdout.write(_list_json(catalog) if args.json else _list_text(catalog))
        return 0
    if not args.machine:
        raise RequestError(
            "No machine was named; add --machine NAME, of `tonnage whatif --list`, or a file."
        )
    devices = [find_device(catalog, wanted) for wanted in args.machine]
    assert catalog.prior is not None
    name, plan = _plan(args)
    demand = demand_of(plan)
    answers = [(device, forecast(demand, device, catalog.prior)) for device in devices]
    if args.json:
        import json

        machines = [_as_json(*answer, catalog) for answer in answers]
        print(json.dumps({"model": name, **_demand_json(plan, demand), "machines": machines}))
    else:
        sys.stdout.write("\n".join(_text(name, plan, demand, answers)) + "\n")
    return 0


def _plan(args: Namespace) -> tuple[str, Plan]:
    """Return the model's name and its plan, from headers."""
    from tonnage.engine import read_model
    from tonnage.machine.host import read_machine
    from tonnage.models.catalog import open_catalogs
    from tonnage.models.source import resolve
    from tonnage.planner.fit import Wishes, choose_workload
    from tonnage.planner.plan import make_plan

    source = resolve(
        args.model,
        catalogs=open_catalogs(args.catalog, os.environ),
        offline=args.offline,
        progress=LateProgress(sys.stderr),
    )
    spec, _ = read_model(source)
    # One thread: how many this machine has says nothing about another.
    wishes = Wishes(args.context, threads=1, precision=args.precision)
    return source.name, make_plan(spec, choose_workload(spec, read_machine(), wishes))


def _demand_json(plan: Plan, demand: Demand) -> dict[str, Any]:
    return {
        "context_tokens": plan.context_tokens,
        "prompt_tokens": demand.prefill.tokens,
        "held_bytes": demand.held_bytes,
        "decode_read_bytes": round(demand.decode.read_bytes),
        "decode_macs": demand.decode.macs,
        "prefill_read_bytes": round(demand.prefill.read_bytes),
        "prefill_macs": demand.prefill.macs,
    }


def _as_json(device: Device, answer: Forecast, catalog: Hardware) -> dict[str, Any]:
    return {
        "machine": asdict(device),
        "fits": answer.home is not None,
        **asdict(answer),
        "sources": _addresses(device, catalog.sources),
    }


def _addresses(device: Device, sources: Mapping[str, str]) -> dict[str, str]:
    """Return id -> address of all sources of a device; a user's own file may have others."""
    origins = [tier.origin for tier in device.tiers]
    origins += [peak.origin for peak in device.peaks] + [link.origin for link in device.links]
    origins += [price.origin for price in device.prices] + [s.origin for s in device.shares]
    ids = {source for origin in origins for source in origin.sources}
    ids.update(device.power_sources, *(tier.energy_sources for tier in device.tiers))
    return {source: sources[source] for source in sorted(ids) if source in sources}


def _text(
    name: str, plan: Plan, demand: Demand, answers: list[tuple[Device, Forecast]]
) -> Iterator[str]:
    yield (
        f"{name} with {plan.context_tokens:,} tokens of context: "
        f"{format_bytes(demand.held_bytes)} to hold, "
        f"{format_bytes(round(demand.decode.read_bytes))} and "
        f"{demand.decode.macs / 1e9:,.2f} G multiply-adds per decoded token"
    )
    for device, answer in answers:
        yield ""
        yield f"{device.name}: {device.title}"
        for label, line in _lines(demand, device, answer):
            yield f"  {label:<8} {line}"


def _lines(demand: Demand, device: Device, answer: Forecast) -> Iterator[tuple[str, str]]:
    if answer.home is None:
        yield "fits", _shortfall(device, answer)
    else:
        yield "fits", f"in {answer.home}{_capacity(device, answer.home)}"
    if answer.decode:
        bound = "likely below " if answer.likely_too_fast else ""
        yield "decode", f"{bound}{_rate(answer.decode, answer)}"
    if answer.prefill:
        tokens = f"{demand.prefill.tokens} tokens in {answer.number_format}"
        yield "prefill", f"{_rate(answer.prefill, answer)}; {tokens}"
    if answer.joules_per_token is not None:
        energy = f"{answer.joules_per_token:.2g} J per decoded token"
        yield "energy", f"{energy} ({_ENERGY[answer.joules_basis or 'modelled']})"
    if answer.usd_per_million_tokens:
        low, high = answer.usd_per_million_tokens
        dates = sorted(price.date for price in device.prices)
        bound = "likely above " if answer.likely_too_fast else ""
        span = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
        plural = "offer" if len(dates) == 1 else "offers"
        yield (
            "cost",
            (
                f"{bound}{_span(low, high)} USD per million decoded tokens, one sequence at a time "
                f"({len(dates)} {plural}, {span})"
            ),
        )
    for sentence in answer.unknown:
        yield "unknown", sentence


def _rate(rate: Rate, answer: Forecast) -> str:
    if rate.bottleneck == "compute":
        limit = f"compute at {answer.compute_share:.0%} of its peak"
    else:
        basis = _BASIS[answer.share_basis]
        limit = f"{rate.bottleneck} at {answer.bandwidth_share:.0%} of its bandwidth ({basis})"
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


def _shortfall(device: Device, answer: Forecast) -> str:
    link = max(device.links, key=lambda link: link.bytes_per_s, default=None)
    joined = f", joined by {link.name} at {link.bytes_per_s / 1e9:,.0f} GB/s" if link else ""
    return (
        f"no: {answer.short_bytes:,} bytes ({format_bytes(answer.short_bytes)}) short; "
        f"{answer.devices_needed} of them would hold it{joined}"
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
