"""The catalog of hardware and files of users' own machines."""

import tomllib
from pathlib import Path

import pytest

from tonnage.core.errors import MachineError
from tonnage.machine.hardware import SHIPPED, find_device, load_hardware, load_shipped

BOX = """
[device.box]
name = "My box"
power_w = 120
[device.box.peak]
int8 = 4e12
[[device.box.tier]]
name = "ddr"
role = "memory"
capacity_bytes = 64e9
bandwidth_bytes_per_s = 9e10
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "box.toml"
    file.write_text(text, "utf-8")
    return file


def mistakes(folder: Path, text: str) -> str:
    with pytest.raises(MachineError) as caught:
        load_hardware(written(folder, text))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


def test_every_figure_of_the_catalog_has_a_source():
    catalog = load_shipped()
    assert catalog.prior is not None
    used = {"gptfast", "flashmla"}
    for device in catalog.devices.values():
        for tier in device.tiers:
            assert bool(tier.energy_sources) == (tier.energy_pj_per_byte is not None)
            used.update(tier.energy_sources)
        origins = [tier.origin for tier in device.tiers] + [peak.origin for peak in device.peaks]
        origins += [link.origin for link in device.links] + [p.origin for p in device.prices]
        origins += [share.origin for share in device.shares]
        assert all(origin.sources for origin in origins), device.name
        assert all(origin.confidence in ("read", "derived") for origin in origins), device.name
        assert bool(device.power_sources) == (device.power_w is not None), device.name
        used.update(device.power_sources, *(origin.sources for origin in origins))
    with SHIPPED.open("rb") as stream:
        used.update(tomllib.load(stream)["prior"]["src"])
    assert used == set(catalog.sources)


@pytest.mark.parametrize("name", ["h100-sxm", "tpu-v5e", "raspberry-pi-5", "m4-max"])
def test_known_machines_are_there(name):
    assert load_shipped().devices[name].name == name


def test_all_kinds_of_memory_are_data():
    devices = load_shipped().devices
    assert [tier.role for tier in devices["groq-lpu-v1"].tiers] == ["memory"]
    assert [tier.name for tier in devices["samsung-hbm-pim"].tiers] == [
        "hbm_internal_pim", "hbm_external",
    ]  # fmt: skip
    assert [tier.role for tier in devices["d-matrix-corsair"].tiers] == ["memory", "memory"]
    # Recalled figures were left out, hence the gap.
    assert devices["jetson-agx-orin-64gb"].tiers[-1].bandwidth_bytes_per_s is None


def test_a_machine_of_ones_own(tmp_path):
    device = find_device(load_shipped(), str(written(tmp_path, BOX)))
    assert (device.name, device.title, device.power_w) == ("box", "My box", 120)
    assert device.tiers[0].capacity_bytes == 64_000_000_000
    assert device.peaks[0].origin.confidence == "stated"


def test_cxl_behind_dram_is_one_more_tier(tmp_path):
    more = """[[device.box.tier]]
name = "cxl"
role = "memory"
capacity_bytes = 1000000000000
bandwidth_bytes_per_s = 3e10
"""
    device = find_device(load_shipped(), str(written(tmp_path, BOX + more)))
    assert [tier.name for tier in device.tiers] == ["ddr", "cxl"]


def test_a_wrong_name_is_told_the_nearest():
    with pytest.raises(MachineError, match="did you mean h100-sxm"):
        find_device(load_shipped(), "h100-smx")


def test_two_machines_in_a_file_are_one_too_many(tmp_path):
    file = written(tmp_path, BOX + BOX.replace("device.box", "device.other"))
    with pytest.raises(MachineError, match=r"2 devices \(box, other\); leave one"):
        find_device(load_shipped(), str(file))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('name = "My box"', "", "Device 'box' does not say name; add it."),
        ('role = "memory"', "", "Device 'box', tier 1 does not say role; add it."),
        ("bandwidth_bytes_per_s", "bandwith_bytes_per_s", "did you mean bandwidth_bytes_per_s or"),
        ("int8 = 4e12", "int9 = 4e12", "unknown key 'int9'; did you mean int8"),
        ("4e12", "-1", "int8 is -1, and must be a number above 0."),
        ("4e12", "nan", "int8 is nan, and must be a number above 0."),
        ("4e12", "inf", "int8 is inf, and must be a number above 0."),
        ("4e12", "true", "int8 is True, and must be a number above 0."),
        ("4e12", '"fast"', "int8 is 'fast', and must be a number above 0."),
        ("64e9", "0.5", "capacity_bytes is 0.5, and must be a whole number above 0."),
        ('"memory"', '"cache"', "no tier that could hold a model"),
        ('"memory"', '"ram"', "must be one of cache, memory, storage."),
        ("power_w = 120", "power_w = 1\nstatic_w = 2", "static_w 2 is above power_w 1"),
        ("power_w = 120", 'power_w = 1\npower_src = ["x"]', "names the source 'x'"),
        ("[[device.box.tier]]", "[device.box.tier]", "must be given as [[tables]]"),
        ("[device.box.peak]\nint8 = 4e12", "peak = 3", "peak is 3, and must be a table."),
    ],
)  # fmt: skip
def test_what_is_missing_or_wrong_is_a_sentence(tmp_path, old, new, sentence):
    assert old in BOX
    assert sentence in mistakes(tmp_path, BOX.replace(old, new))


def tier(name: str, bandwidth: float) -> str:
    return (
        f'[[device.box.tier]]\nname = "{name}"\nrole = "memory"\n'
        f"bandwidth_bytes_per_s = {bandwidth}\n"
    )


def share(basis: str, value: float) -> str:
    return f'[[device.box.share]]\nbasis = "{basis}"\nvalue = {value}\nwhat = "x"\n'


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (tier("hbm", 1e12), "tier 'hbm' is listed behind 'ddr' and has more bandwidth (1e+12"),
        (tier("ddr", 1e9), "has 2 times the tier 'ddr'; leave one."),
        (share("decode", 1.5), "value is 1.5, and must be above 0 and at most 1."),
        (share("decode", 0.9) + share("stream", 0.5), "decode share 0.9 is above its stream"),
        (share("stream", 0.9) * 2, "has 2 times the share 'stream'"),
        ('[[device.box.price]]\nwhat="w"\ndate="d"\nusd_per_hour=[2, 1]\n', "the lower one first"),
    ],
)
def test_contradictions_are_sentences(tmp_path, more, sentence):
    assert sentence in mistakes(tmp_path, BOX + more)


def test_all_mistakes_are_listed_at_once(tmp_path):
    text = BOX.replace('"memory"', '"ram"').replace("4e12", "0").replace("power_w", "powr_w")
    message = mistakes(tmp_path, text)
    assert all(part in message for part in ("role is 'ram'", "int8 is 0", "did you mean power_w"))
