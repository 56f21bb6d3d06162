"""How fast a plan would run on a device that need not be here: two terms, from stated facts.

Both terms overlap, so the slower one counts:

    seconds = max(bytes / (bandwidth * share), 2 * multiply_adds / (peak * share))

bytes and multiply_adds come from the plan; bandwidth is that of the tier which holds the model. A
share is the device's own where it was measured, else a prior (`DeviceForecast.share_basis`). What
is done around both (launching, sampling, waiting) is inside the measured shares, not a term: small
models on fast devices are slower than this says.
"""

from dataclasses import replace
from typing import Literal

from tonnage.core.hardware import Device, NumberFormat, Peak, Prior, Tier
from tonnage.core.plan import Plan
from tonnage.core.record import record
from tonnage.core.units import format_bytes
from tonnage.planner.cost.request import PROMPT_TOKENS
from tonnage.planner.cost.work import work_of

# The shortest step among the published decode rates that the formula was checked with.
CHECKED_STEP_S = 2.99e-3

ShareBasis = Literal["decode", "stream", "prior"]
EnergyBasis = Literal["modelled", "bytes alone", "full power"]

# From the fastest that loses nothing on. Kernels multiply quantized weights in int8 where there is
# int8, and widen them otherwise.
_FOR_CODES: tuple[NumberFormat, ...] = ("int8", "mxint8", "bf16", "fp16", "tf32", "fp32")
_FOR_HALVES: tuple[NumberFormat, ...] = ("bf16", "fp16", "tf32", "fp32")
_FOR_FLOATS: tuple[NumberFormat, ...] = ("fp32",)


@record
class Load:
    """What `tokens` tokens read from the model's tier, and their multiply-adds."""

    tokens: int
    read_bytes: float
    macs: float


@record
class Demand:
    """What a model asks of a device.

    held_bytes: weights, KV pages and scratch. decode: one token behind a full context. prefill: a
    fresh prompt. formats: number formats to multiply in, the best first.
    """

    held_bytes: int
    decode: Load
    prefill: Load
    formats: tuple[NumberFormat, ...]


@record
class Rate:
    """Tokens per second, and what limits them: the bandwidth of a tier by its name, or `compute`.

    ceiling: tokens per second if every byte came and every operation ran at the full peak.
    """

    tokens_per_s: float
    bottleneck: str
    ceiling_tokens_per_s: float


@record
class DeviceForecast:
    """What is forecast; None is what the facts do not give, `unknown` says in sentences why.

    home: the tier that holds the model. short_bytes: what is missing in the largest tier when none
    holds it; devices_needed: how many devices hold it together. share_basis: decode when measured
    on this device, stream when the prior is above what a plain read reaches there, else prior.
    likely_too_fast: whether a decode step is shorter than any that the formula was checked with;
    what it costs beside bytes and multiply-adds is missing, from joules and dollars too.
    joules_per_token: of decoding; `modelled` counts bytes and static power, `bytes alone` no static
    power, `full power` the most that the device draws. usd_per_million_tokens:
    decoding, lowest to highest offer.
    """

    home: str | None
    short_bytes: int
    devices_needed: int | None
    bandwidth_share: float
    share_basis: ShareBasis
    compute_share: float
    number_format: NumberFormat | None
    decode: Rate | None
    prefill: Rate | None
    likely_too_fast: bool
    joules_per_token: float | None
    joules_basis: EnergyBasis | None
    usd_per_million_tokens: tuple[float, float] | None
    unknown: tuple[str, ...]


@record
class DeviceSpeed:
    """A forecast in the words of this machine's; None is what the facts do not give."""

    decode_tokens_per_s: float
    prefill_tokens_per_s: float | None
    time_to_first_token_ns: int | None
    bottleneck: str


def speed_on(plan: Plan, device: Device, prior: Prior) -> DeviceSpeed | None:
    """Return how fast `plan` runs on `device`, or None without a tier that holds it."""
    found = forecast(demand_of(plan), device, prior)
    if found.decode is None:
        return None
    prefill = found.prefill.tokens_per_s if found.prefill else None
    prompt = min(PROMPT_TOKENS, plan.context_tokens)
    return DeviceSpeed(
        found.decode.tokens_per_s,
        prefill,
        None if prefill is None else round(1e9 * prompt / prefill),
        found.decode.bottleneck,
    )


def demand_of(plan: Plan) -> Demand:
    """Return what `plan` asks of a device: decode at its whole context, prefill of 512 tokens."""
    # One thread: how a team here splits the panels says nothing about another machine.
    work = work_of(replace(plan, threads=1))
    weights = work.read_bytes + work.vector_bytes
    prompt, last = min(PROMPT_TOKENS, plan.context_tokens), plan.context_tokens - 1
    ends = [min(begin + plan.max_rows, prompt) for begin in range(0, prompt, plan.max_rows)]
    attending = sum(work.attention_macs(position) for position in range(prompt))
    return Demand(
        held_bytes=plan.arena_bytes,
        decode=Load(
            1,
            weights + work.kv_bytes(last),
            work.macs_per_row + work.late_macs_per_row + work.attention_macs(last),
        ),
        prefill=Load(
            prompt,
            len(ends) * weights + sum(work.kv_bytes(end - 1) for end in ends),
            prompt * work.macs_per_row + work.late_macs_per_row + attending,
        ),
        formats=_formats(plan),
    )


def forecast(demand: Demand, device: Device, prior: Prior) -> DeviceForecast:
    """Return how `device` would run what is asked; prior: shares where it has none of its own."""
    home, unknown = _home(demand, device), []
    share, basis = _bandwidth_share(device, prior)
    measured = device.share("compute")
    compute_share = measured.value if measured else prior.compute_share
    peak = next((p for form in demand.formats for p in device.peaks if p.format == form), None)
    if peak is None:
        unknown.append(
            f"No peak from {demand.formats[0]} to {demand.formats[-1]} is known, so prefill has no "
            "figure and decode is taken not to be limited by compute."
        )
    decode = prefill = None
    if home is not None:
        unknown.extend(_unknown_of(home, demand))
        decode = _rate(demand.decode, home, peak, (share, compute_share))
        prefill = _rate(demand.prefill, home, peak, (share, compute_share)) if peak else None
    too_short = decode is not None and 1 / decode.tokens_per_s < CHECKED_STEP_S
    if decode and too_short:
        unknown.append(_too_short(decode))
    joules, energy = _energy(demand.decode, decode, home, device)
    dollars = _dollars(decode, device)
    if decode and joules is None:
        unknown.append("Neither power nor energy per byte is known, so joules have no figure.")
    if decode and dollars is None:
        unknown.append("No price per hour is known, so the cost has no figure.")
    short_bytes, devices = (0, None) if home else _shortfall(demand, device)
    return DeviceForecast(
        home=home.name if home else None,
        short_bytes=short_bytes,
        devices_needed=devices,
        bandwidth_share=share,
        share_basis=basis,
        compute_share=compute_share,
        number_format=peak.format if peak else None,
        decode=decode,
        prefill=prefill,
        likely_too_fast=too_short,
        joules_per_token=joules,
        joules_basis=energy,
        usd_per_million_tokens=dollars,
        unknown=tuple(unknown),
    )


def _formats(plan: Plan) -> tuple[NumberFormat, ...]:
    """Return the number formats for the kind of weights that most multiply-adds go to."""
    macs: dict[tuple[NumberFormat, ...], int] = {}
    for matrix in plan.matrices:
        by_format = {
            "F64": _FOR_FLOATS, "F32": _FOR_FLOATS, "F16": _FOR_HALVES, "BF16": _FOR_HALVES,
            "F8_E4M3": _FOR_HALVES,
        }  # fmt: skip
        formats = by_format.get(matrix.format, _FOR_CODES)
        macs[formats] = macs.get(formats, 0) + matrix.rows * matrix.cols
    return max(macs, key=lambda formats: macs[formats])


def _homes(device: Device) -> list[Tier]:
    return [tier for tier in device.tiers if tier.role != "cache"]


def _home(demand: Demand, device: Device) -> Tier | None:
    """Return the nearest tier that holds the model; one of unknown size only if no other does."""
    homes = _homes(device)
    for tier in homes:
        if tier.capacity_bytes is not None and tier.capacity_bytes >= demand.held_bytes:
            return tier
    return next((tier for tier in homes if tier.capacity_bytes is None), None)


def _unknown_of(home: Tier, demand: Demand) -> list[str]:
    unknown = []
    if home.capacity_bytes is None:
        unknown.append(
            f"The capacity of tier {home.name} is not known; it is taken to hold the model's "
            f"{format_bytes(demand.held_bytes)}."
        )
    if home.bandwidth_bytes_per_s is None:
        unknown.append(f"The bandwidth of tier {home.name} is not known, so no speed is either.")
    return unknown


def _too_short(decode: Rate) -> str:
    return (
        f"What a step costs beside bytes and multiply-adds is not known; this one, of "
        f"{1e3 / decode.tokens_per_s:.2g} ms, is shorter than the {1e3 * CHECKED_STEP_S:.2g} ms of "
        "the shortest published one, so expect fewer tokens per second."
    )


def _bandwidth_share(device: Device, prior: Prior) -> tuple[float, ShareBasis]:
    decode, stream = device.share("decode"), device.share("stream")
    if decode is not None:
        return decode.value, "decode"
    if stream is not None and stream.value < prior.decode_share:
        return stream.value, "stream"
    return prior.decode_share, "prior"


def _rate(work: Load, home: Tier, peak: Peak | None, shares: tuple[float, float]) -> Rate | None:
    """Return the rate of `work`, or None without a bandwidth; shares: of bandwidth, of compute."""
    if home.bandwidth_bytes_per_s is None:
        return None
    moving_s = work.read_bytes / home.bandwidth_bytes_per_s
    computing_s = 2 * work.macs / peak.ops_per_s if peak else 0.0
    slow_moving_s, slow_computing_s = moving_s / shares[0], computing_s / shares[1]
    return Rate(
        tokens_per_s=work.tokens / max(slow_moving_s, slow_computing_s),
        bottleneck=home.name if slow_moving_s >= slow_computing_s else "compute",
        ceiling_tokens_per_s=work.tokens / max(moving_s, computing_s),
    )


def _energy(
    work: Load, rate: Rate | None, home: Tier | None, device: Device
) -> tuple[float | None, EnergyBasis | None]:
    """Return joules per token; the multiply-adds themselves are in no figure per byte."""
    if rate is None or home is None:
        return None, None
    if home.energy_pj_per_byte is not None:
        moved = home.energy_pj_per_byte * 1e-12 * work.read_bytes / work.tokens
        if device.static_w is None:
            return moved, "bytes alone"
        return moved + device.static_w / rate.tokens_per_s, "modelled"
    if device.power_w is not None:
        return device.power_w / rate.tokens_per_s, "full power"
    return None, None


def _dollars(rate: Rate | None, device: Device) -> tuple[float, float] | None:
    if rate is None or not device.prices:
        return None
    hours = 1e6 / rate.tokens_per_s / 3600
    low = min(price.usd_per_hour[0] for price in device.prices)
    high = max(price.usd_per_hour[1] for price in device.prices)
    return low * hours, high * hours


def _shortfall(demand: Demand, device: Device) -> tuple[int, int]:
    largest = max(tier.capacity_bytes or 0 for tier in _homes(device))
    return demand.held_bytes - largest, -(-demand.held_bytes // largest)
