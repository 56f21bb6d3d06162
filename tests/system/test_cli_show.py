"""`tonnage show`, `compare` and `list --memory`: what models are, alone and beside each other."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from support.command import refused, tonnage
from support.live_server import write_chat_model


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """The same weights in eight bits and in four."""
    folder = tmp_path_factory.mktemp("model")
    made = tiny_model(tiny_config("llama"), seed=1)
    return [write_gguf(folder / f"{form}.gguf", made, matrices(form)) for form in ("Q8_0", "Q4_0")]


def test_show_tells_what_a_file_is(files, tmp_path):
    told = json.loads(tonnage(tmp_path, "show", files[0], "--json").stdout)
    assert (told["family"], told["kind"], told["template_chars"]) == ("llama", "base", None)
    assert told["file_bytes"] == files[0].stat().st_size
    formats = {one["format"]: one for one in told["formats"]}
    assert formats.keys() == {"Q8_0", "F32"}
    # 34 bytes hold 32 numbers.
    assert formats["Q8_0"]["num_bytes"] * 32 == formats["Q8_0"]["num_elements"] * 34
    assert told["num_parameters"] == sum(one["num_elements"] for one in told["formats"])
    table = tonnage(tmp_path, "show", "-m", files[0]).stdout
    assert "base (goes on with a text)" in table
    assert max(map(len, table.splitlines())) <= 100 + len(str(files[0]))


def test_show_knows_a_chat_model_and_the_licence_of_its_folder(tmp_path):
    folder = write_chat_model(tmp_path / "hf")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\ntags: [x]\n---\n# A model\n")
    told = json.loads(tonnage(tmp_path, "show", folder, "--json").stdout)
    assert (told["kind"], told["licence"]) == ("instruct", "apache-2.0")
    assert told["template_chars"] > 0


def test_compare_puts_files_into_one_table_and_one_picture(files, tmp_path):
    picture = tmp_path / "picture.svg"
    done = tonnage(tmp_path, "compare", *files, "--memory", "300M", "--json", "--svg", picture)
    eight, four = json.loads(done.stdout)["models"]
    assert eight["file_bytes"] == files[0].stat().st_size
    assert eight["bits"] > four["bits"]
    assert eight["memory_bytes"] > four["memory_bytes"]
    assert eight["fits"]
    assert eight["lost_nats"] > 0
    assert four["lost_nats"] is None  # of Q4_0 no error was measured
    root = ET.fromstring(picture.read_text())
    values = [one.get("data-value") for one in root.iter() if one.get("data-value")]
    assert [float(value) for value in values[:2]] == pytest.approx(
        [eight["memory_bytes"], four["memory_bytes"]], rel=1e-5
    )
    lines = tonnage(tmp_path, "compare", *files, "--memory", "300M").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["Q8_0.gguf", "Q4_0.gguf"]
    assert max(map(len, lines)) <= 100
    assert "There is no file" in refused(tonnage(tmp_path, "compare", files[0], "none.gguf"))


def test_list_says_what_fits(files, tmp_path):
    place = tmp_path / "cache" / "tonnage" / "models" / "tiny" / "tiny.gguf"
    place.parent.mkdir(parents=True)
    place.symlink_to(files[0])
    for memory, fits in (("300M", True), ("20M", False)):
        rows = json.loads(tonnage(tmp_path, "list", "--memory", memory, "--json").stdout)
        (told,) = (row for row in rows if row["name"] == "tiny")
        assert told["fits"] is fits, told
        assert told["mean_kld"] >= 0
        assert told["kind"] == "base"  # in no catalog, and without a chat template
    table = tonnage(tmp_path, "list", "--memory", "300M").stdout
    assert "tiny" in table
    assert "more are not here" in table
