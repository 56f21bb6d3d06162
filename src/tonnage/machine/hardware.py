"""Reading hardware from TOML: the catalog that is shipped, or a file of the user's own machine.

The head of `hardware.toml` beside this module says what a file holds. Everything that is wrong with
a file is said at once, a sentence each.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from tonnage.core.errors import MachineError
from tonnage.core.hardware import (
    BASES,
    CONFIDENCES,
    NUMBER_FORMATS,
    ROLES,
    Device,
    Hardware,
    Link,
    Origin,
    Peak,
    Price,
    Prior,
    Share,
    Tier,
)
from tonnage.core.nearest import did_you_mean
from tonnage.core.record import record
from tonnage.core.units import format_bytes

SHIPPED = Path(__file__).with_name("hardware.toml")

_MAX_FILE_BYTES = 1 << 20
_MAX_SHOWN = 20
_MAX_FIGURE = 1e24


@record
class _Kind:
    """What a value must be: a test, and words for it."""

    fits: Callable[[Any], bool]
    words: str


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= _MAX_FIGURE


def _is_whole(value: Any) -> bool:
    return _is_number(value) and value == int(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 300 and value.isprintable()


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= 50 and all(map(_is_text, value))


def _is_range(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2 or not all(map(_is_number, value)):
        return False
    return bool(value[0] <= value[1])


def _word_of(words: tuple[str, ...]) -> _Kind:
    return _Kind(
        lambda value: isinstance(value, str) and value in words, "one of " + ", ".join(words)
    )


_NUMBER = _Kind(_is_number, "a number above 0")
_WHOLE = _Kind(_is_whole, "a whole number above 0")
_SHARE = _Kind(lambda value: _is_number(value) and value <= 1, "above 0 and at most 1")
_TEXT = _Kind(_is_text, "a text of at most 300 characters")
_TEXTS = _Kind(_is_texts, "a list of texts")
_RANGE = _Kind(_is_range, "a list of two numbers above 0, the lower one first")
_TABLES = _Kind(lambda value: isinstance(value, list), "given as [[tables]]")
_TABLE = _Kind(lambda value: isinstance(value, dict), "a table")

_ORIGIN = {"confidence": _word_of(CONFIDENCES), "src": _TEXTS}
_TIER = {
    "name": _TEXT, "role": _word_of(ROLES), "tech": _TEXT, "capacity_bytes": _WHOLE,
    "bandwidth_bytes_per_s": _NUMBER, "energy_pj_per_byte": _NUMBER, "energy_src": _TEXTS,
    **_ORIGIN,
}  # fmt: skip
_PEAK: dict[str, _Kind] = {**dict.fromkeys(NUMBER_FORMATS, _NUMBER), **_ORIGIN}
_LINK = {"name": _TEXT, "bytes_per_s": _NUMBER, **_ORIGIN}
_PRICE = {"what": _TEXT, "date": _TEXT, "usd_per_hour": _RANGE, **_ORIGIN}
_SHARE_TABLE = {"basis": _word_of(BASES), "value": _SHARE, "what": _TEXT, **_ORIGIN}
_LISTS = {"tier": _TIER, "link": _LINK, "price": _PRICE, "share": _SHARE_TABLE}
_NEEDED = {
    "tier": ("name", "role"), "link": ("name", "bytes_per_s"),
    "price": ("what", "date", "usd_per_hour"), "share": ("basis", "value", "what"),
}  # fmt: skip
_DEVICE = {
    "name": _TEXT, "kind": _TEXT, "year": _WHOLE, "power_w": _NUMBER, "power_src": _TEXTS,
    "static_w": _NUMBER, "peak": _TABLE, **dict.fromkeys(_LISTS, _TABLES),
}  # fmt: skip
_PRIOR = {"decode_share": _SHARE, "compute_share": _SHARE, "src": _TEXTS}


def load_shipped() -> Hardware:
    """Return the catalog that comes with the package; its prior is never None."""
    return load_hardware(SHIPPED)


def find_device(catalog: Hardware, wanted: str) -> Device:
    """Return the device that `wanted` names: of the catalog, or the one of a file.

    A word with a `/` or ending in `.toml` is a file. Raises MachineError.
    """
    if "/" not in wanted and not wanted.endswith(".toml"):
        if wanted in catalog.devices:
            return catalog.devices[wanted]
        end = did_you_mean(wanted, catalog.devices)
        raise MachineError(f"No machine is named {wanted[:100]!r}{end}")
    devices = load_hardware(Path(wanted).expanduser()).devices
    if len(devices) != 1:
        names = ", ".join(list(devices)[:10])
        raise MachineError(
            f"Machine file {wanted} describes {len(devices)} devices ({names}); leave one."
        )
    return next(iter(devices.values()))


def load_hardware(file: Path) -> Hardware:
    """Return the hardware that a TOML file describes.

    Raises MachineError: the file cannot be read, or a sentence for each thing that is wrong in it.
    """
    document = _read_toml(file)
    wrong = list(_document_mistakes(document))
    if wrong:
        more = len(wrong) - _MAX_SHOWN
        rest = f" And {more} more mistakes." if more > 0 else ""
        shown = " ".join(_sentence(mistake) for mistake in wrong[:_MAX_SHOWN])
        raise MachineError(f"Machine file {file} is wrong. {shown}{rest}")
    prior = document.get("prior")
    return Hardware(
        {name: _device(name, table) for name, table in document["device"].items()},
        dict(document.get("sources", {})),
        None if prior is None else Prior(prior["decode_share"], prior["compute_share"]),
    )


def _read_toml(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MachineError(
            f"Machine file {str(file)[:300]} cannot be read ({reason}); `tonnage plan --machines` "
            "shows the machines that need no file."
        ) from None
    if len(data) > _MAX_FILE_BYTES:
        raise MachineError(f"Machine file {file} is larger than {format_bytes(_MAX_FILE_BYTES)}.")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise MachineError(f"Machine file {file} is not valid TOML: {error}.") from None


def _document_mistakes(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a file, each as a sentence; its period may be missing."""
    kinds = dict.fromkeys(("device", "sources", "prior"), _TABLE)
    yield from _value_mistakes("The file", document, kinds)
    sources = document.get("sources")
    known = sources if isinstance(sources, dict) else {}
    for key, address in known.items():
        if not _is_text(address) and not (isinstance(address, str) and len(address) <= 2000):
            yield f"Source {key!r} is {_shown(address)}; write its address as a text"
    if isinstance(document.get("prior"), dict):
        prior = document["prior"]
        yield from _missing("The prior", prior, ("decode_share", "compute_share"))
        yield from _value_mistakes("The prior", prior, _PRIOR)
        yield from _source_mistakes("The prior", prior, known)
    devices = document.get("device")
    if not isinstance(devices, dict) or not devices:
        yield "It has no [device.NAME] table; describe the machine in one"
        return
    for name, table in devices.items():
        yield from _device_mistakes(f"Device {name[:100]!r}", table, known)


def _device_mistakes(who: str, table: Any, sources: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(table, dict):
        yield f"{who} is {_shown(table)}; write [device.NAME] and its figures below"
        return
    yield from _missing(who, table, ("name",))
    yield from _value_mistakes(who, table, _DEVICE)
    yield from _source_mistakes(who, table, sources)
    if isinstance(table.get("peak"), dict):
        yield from _value_mistakes(f"{who}, peak", table["peak"], _PEAK)
        yield from _source_mistakes(f"{who}, peak", table["peak"], sources)
    clean = True
    for key, kinds in _LISTS.items():
        for number, row in enumerate(_rows(table, key), 1):
            where = f"{who}, {key} {number}"
            found = list(_row_mistakes(where, row, kinds, _NEEDED[key], sources))
            clean = clean and not found
            yield from found
    if clean:
        yield from _contradictions(who, table)


def _row_mistakes(
    where: str,
    row: Any,
    kinds: Mapping[str, _Kind],
    needed: tuple[str, ...],
    sources: Mapping[str, Any],
) -> Iterator[str]:
    if not isinstance(row, dict):
        yield f"{where} is {_shown(row)}, not a table"
        return
    yield from _missing(where, row, needed)
    yield from _value_mistakes(where, row, kinds)
    yield from _source_mistakes(where, row, sources)


def _rows(table: Mapping[str, Any], key: str) -> list[Any]:
    rows = table.get(key, [])
    return rows if isinstance(rows, list) else []


def _missing(who: str, table: Mapping[str, Any], needed: tuple[str, ...]) -> Iterator[str]:
    for key in needed:
        if key not in table:
            yield f"{who} does not say {key}; add it"


def _value_mistakes(
    who: str, table: Mapping[str, Any], kinds: Mapping[str, _Kind]
) -> Iterator[str]:
    for key, value in table.items():
        if key not in kinds:
            yield f"{who} has the unknown key {key[:100]!r}{did_you_mean(key[:100], kinds)}"
        elif not kinds[key].fits(value):
            yield f"{who}: {key} is {_shown(value)}, and must be {kinds[key].words}"


def _source_mistakes(
    who: str, table: Mapping[str, Any], sources: Mapping[str, Any]
) -> Iterator[str]:
    for key in ("src", "energy_src", "power_src"):
        named = table.get(key, [])
        for source in named if _is_texts(named) else ():
            if source not in sources:
                yield f"{who} names the source {source!r}, which [sources] lacks; add it there"


def _contradictions(who: str, table: Mapping[str, Any]) -> Iterator[str]:
    """Yield what cannot be true together; every row is right by itself."""
    tiers = _rows(table, "tier")
    if all(tier["role"] == "cache" for tier in tiers):
        yield f"{who} has no tier that could hold a model; add a [[tier]] of role memory or storage"
    for key, field in (("tier", "name"), ("link", "name"), ("share", "basis")):
        words = [row[field] for row in _rows(table, key)]
        for word in sorted({word for word in words if words.count(word) > 1}):
            yield f"{who} has {words.count(word)} times the {key} {word!r}; leave one"
    fast = [tier for tier in tiers if "bandwidth_bytes_per_s" in tier]
    for near, far in pairwise(fast):
        if near["bandwidth_bytes_per_s"] < far["bandwidth_bytes_per_s"]:
            yield (
                f"{who}: tier {far['name']!r} is listed behind {near['name']!r} and has more "
                f"bandwidth ({far['bandwidth_bytes_per_s']:.3g} against "
                f"{near['bandwidth_bytes_per_s']:.3g} bytes/s); list tiers from the nearest on"
            )
    shares = {row["basis"]: row["value"] for row in _rows(table, "share")}
    if shares.get("decode", 0) > shares.get("stream", 1):
        yield (
            f"{who}: its decode share {shares['decode']} is above its stream share "
            f"{shares['stream']}; a plain read is the faster one"
        )
    power, static = table.get("power_w"), table.get("static_w")
    if _is_number(power) and _is_number(static) and static > power:  # type: ignore[operator]
        yield f"{who}: static_w {static} is above power_w {power}, which is all it draws"


def _sentence(mistake: str) -> str:
    return mistake[:400] if mistake[-1] in ".?" else f"{mistake[:400]}."


def _shown(value: Any) -> str:
    return repr(value)[:60]


def _origin(table: Mapping[str, Any]) -> Origin:
    return Origin(tuple(table.get("src", ())), table.get("confidence", "stated"))


def _device(name: str, table: Mapping[str, Any]) -> Device:
    peaks = table.get("peak", {})
    return Device(
        name=name,
        title=table["name"],
        kind=table.get("kind", "machine"),
        year=None if "year" not in table else int(table["year"]),
        tiers=tuple(_tier(row) for row in table["tier"]),
        peaks=tuple(
            Peak(key, float(peaks[key]), _origin(peaks)) for key in NUMBER_FORMATS if key in peaks
        ),
        links=tuple(
            Link(row["name"], float(row["bytes_per_s"]), _origin(row))
            for row in table.get("link", [])
        ),
        prices=tuple(_price(row) for row in table.get("price", [])),
        shares=tuple(
            Share(row["basis"], float(row["value"]), row["what"], _origin(row))
            for row in table.get("share", [])
        ),
        power_w=table.get("power_w"),
        power_sources=tuple(table.get("power_src", ())),
        static_w=table.get("static_w"),
    )


def _tier(row: Mapping[str, Any]) -> Tier:
    capacity = row.get("capacity_bytes")
    return Tier(
        name=row["name"],
        role=row["role"],
        origin=_origin(row),
        tech=row.get("tech", ""),
        capacity_bytes=None if capacity is None else int(capacity),
        bandwidth_bytes_per_s=row.get("bandwidth_bytes_per_s"),
        energy_pj_per_byte=row.get("energy_pj_per_byte"),
        energy_sources=tuple(row.get("energy_src", ())),
    )


def _price(row: Mapping[str, Any]) -> Price:
    low, high = row["usd_per_hour"]
    return Price(row["what"], row["date"], (float(low), float(high)), _origin(row))
