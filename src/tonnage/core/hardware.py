"""Hardware that need not be here: what is known of a device, and where each figure comes from."""

from collections.abc import Mapping
from typing import Literal, get_args

from tonnage.core.record import record

Role = Literal["cache", "memory", "storage"]
Basis = Literal["decode", "stream", "compute"]
Confidence = Literal["read", "derived", "low", "stated"]
NumberFormat = Literal[
    "fp4", "int4", "mxint4", "fp6", "fp8", "int8", "mxint8", "bf16", "fp16", "tf32", "fp32"
]
ROLES: tuple[Role, ...] = get_args(Role)
BASES: tuple[Basis, ...] = get_args(Basis)
CONFIDENCES: tuple[Confidence, ...] = get_args(Confidence)
NUMBER_FORMATS: tuple[NumberFormat, ...] = get_args(NumberFormat)


@record
class Origin:
    """Ids of the sources of a figure; `stated` is the confidence of a user's own file."""

    sources: tuple[str, ...] = ()
    confidence: Confidence = "stated"


@record
class Tier:
    """A level of memory; None is what no source says.

    A cache (or scratchpad) never holds a model, a memory or storage may. energy_pj_per_byte: to
    read one byte from it.
    """

    name: str
    role: Role
    origin: Origin
    tech: str = ""
    capacity_bytes: int | None = None
    bandwidth_bytes_per_s: float | None = None
    energy_pj_per_byte: float | None = None
    energy_sources: tuple[str, ...] = ()


@record
class Peak:
    """Dense operations per second in a number format; a multiply-add is two operations."""

    format: NumberFormat
    ops_per_s: float
    origin: Origin


@record
class Link:
    """A way to other devices; bytes per second in one direction."""

    name: str
    bytes_per_s: float
    origin: Origin


@record
class Price:
    """US dollars per hour of renting one device, from the lowest to the highest offer."""

    what: str
    date: str
    usd_per_hour: tuple[float, float]
    origin: Origin


@record
class Share:
    """The part of a peak that real programs were seen to reach, above 0 and at most 1.

    decode: of the bandwidth, while a language model decodes one sequence. stream: of the bandwidth,
    in a plain read. compute: of the multiply-adds.
    """

    basis: Basis
    value: float
    what: str
    origin: Origin


@record
class Device:
    """One device; tiers from the nearest to the furthest, at least one of them no cache.

    power_w: the most it draws. static_w: what it draws beside the energy of its tiers.
    """

    name: str
    title: str
    kind: str
    tiers: tuple[Tier, ...]
    year: int | None = None
    peaks: tuple[Peak, ...] = ()
    links: tuple[Link, ...] = ()
    prices: tuple[Price, ...] = ()
    shares: tuple[Share, ...] = ()
    power_w: float | None = None
    power_sources: tuple[str, ...] = ()
    static_w: float | None = None

    def share(self, basis: Basis) -> Share | None:
        """Return the share measured on that basis, or None."""
        return next((share for share in self.shares if share.basis == basis), None)


@record
class Prior:
    """Shares of devices that have none of their own: medians over those that have."""

    decode_share: float
    compute_share: float


@record
class Hardware:
    """Devices by name, and the address of each source by id. prior: None in a user's own file."""

    devices: Mapping[str, Device]
    sources: Mapping[str, str]
    prior: Prior | None
