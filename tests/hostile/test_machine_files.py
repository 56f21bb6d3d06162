"""Machine files that were not written in good faith."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonnage.core.errors import MachineError
from tonnage.machine.hardware import SHIPPED, _device, _document_mistakes, load_hardware


def refused(file: Path) -> str:
    with pytest.raises(MachineError) as caught:
        load_hardware(file)
    message = str(caught.value)
    assert len(message) < 12_000
    return message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no [device.NAME] table"),
        (b"\xff\xfe", "not valid TOML"),
        (b"a = [" * 5000, "not valid TOML"),
        (b"[device", "not valid TOML"),
        (b"device = 3", "device is 3"),
        (b"device = []", "device is []"),
        (b"[device]\nx = 1", "Device 'x' is 1"),
        (b"[device.x]\nname = 'x'\ntier = [1, 'a', []]", "tier 1 is 1, not a table"),
        (b"[device.x]\nname = 'x'\ntier = []", "no tier that could hold"),
        (b"[device.x]\nname = '''a\nb'''", "name is 'a\\nb'"),
        (b"sources = 1\n[device.x]\nname = 'x'", "sources is 1"),
        (b"prior = {}\n[device.x]\nname = 'x'", "The prior does not say decode_share"),
        (b"#" * (1 << 21), "larger than 1.0 MiB"),
        (b"[device.x]\nyear = " + b"9" * 400, "year is 999"),
        (b"[device.x]\n" + b"".join(b"k%d = 1\n" % i for i in range(3000)), "more mistakes"),
    ],
)
def test_it_is_refused_in_words(tmp_path, data, words):
    file = tmp_path / "m.toml"
    file.write_bytes(data)
    assert words in refused(file)


def test_no_file_a_folder_and_a_name_that_no_file_has(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path, Path("a\0b.toml")):
        assert "cannot be read" in refused(path)


@pytest.mark.parametrize("share", range(1, 40))
def test_any_cut_of_the_catalog_loads_or_is_refused(tmp_path, share):
    data = SHIPPED.read_bytes()
    file = tmp_path / "m.toml"
    file.write_bytes(data[: len(data) * share // 40])
    try:
        load_hardware(file)
    except MachineError:
        return


KEYS = st.sampled_from([
    "name", "role", "tier", "peak", "link", "price", "share", "int8", "src", "value", "basis",
    "what", "date", "usd_per_hour", "bytes_per_s", "capacity_bytes", "bandwidth_bytes_per_s",
    "power_w", "static_w", "kind", "year", "confidence", "tech", "energy_src", "power_src",
])  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["memory", "cache", "decode", "read", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=25,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=3), st.dictionaries(KEYS, values), max_size=2))
def test_any_tree_gets_sentences_or_becomes_devices(devices):
    document = {"device": devices}
    wrong = list(_document_mistakes(document))
    if not wrong:
        for name, table in devices.items():
            assert _device(name, table).tiers
