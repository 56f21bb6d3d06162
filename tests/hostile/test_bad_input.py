"""Bad input through the real command line: one sentence, exit code 2, nothing half-written."""

import json
import socket
import struct
from pathlib import Path

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf, write_hf
from support.command import refused, tonnage
from tonnage._native import has_isa
from tonnage.core.errors import FileFormatError
from tonnage.engine.engine import Engine
from tonnage.formats.gguf import GgufFile

RUN = ("Hello", "--temperature", "0", "--max-tokens", "8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """A GGUF file that runs."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    config = tiny_config("llama", max_position_embeddings=256)
    return write_gguf(path, tiny_model(config), matrices("Q4_0")).read_bytes()


@pytest.fixture
def run_bytes(tmp_path):
    """A function that runs the bytes of a file and returns the sentence that refuses them."""

    def run(data: bytes, *args: str) -> str:
        path = tmp_path / "model.gguf"
        path.write_bytes(data)
        sentence = refused(tonnage(tmp_path, "run", path, *(args or RUN)))
        assert path.read_bytes() == data
        assert [item.name for item in tmp_path.iterdir()] == ["model.gguf"]
        return sentence

    return run


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder of Hugging Face that runs."""
    config = tiny_config("qwen3", max_position_embeddings=256)
    return write_hf(tmp_path / "hf", tiny_model(config), dtype="BF16")


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert len(old) == len(new)
    assert data.count(old) == 1
    return data.replace(old, new)


def tensor_row(data: bytes, name: bytes) -> int:
    """Return where the dimensions of a tensor begin in the header."""
    key = struct.pack("<Q", len(name)) + name
    assert data.count(key) == 1
    return data.index(key) + len(key)


def type_offset(data: bytes, name: bytes) -> int:
    row = tensor_row(data, name)
    (num_dims,) = struct.unpack_from("<I", data, row)
    return row + 4 + 8 * num_dims


def patched(data: bytes, offset: int, new: bytes) -> bytes:
    return data[:offset] + new + data[offset + len(new) :]


def test_the_whole_file_runs(tmp_path, whole):
    path = tmp_path / "model.gguf"
    path.write_bytes(whole)
    done = tonnage(tmp_path, "run", path, *RUN)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("share", [0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.9999])
def test_a_truncated_gguf(run_bytes, whole, share):
    sentence = run_bytes(whole[: int(len(whole) * share)])
    assert "model.gguf" in sentence
    assert any(char.isdigit() for char in sentence)


def test_an_empty_file(run_bytes):
    assert "is empty" in run_bytes(b"")


@pytest.mark.parametrize("magic", [b"GGML", b"\x7fELF", b"PK\x03\x04", b"\0\0\0\0"])
def test_a_wrong_magic(run_bytes, whole, magic):
    sentence = run_bytes(magic + whole[4:])
    assert repr(magic) in sentence
    assert "GGUF" in sentence


@pytest.mark.parametrize("version", [0, 1, 4, 99, 3 << 24])
def test_a_wrong_version(run_bytes, whole, version):
    assert "convert it" in run_bytes(patched(whole, 4, struct.pack("<I", version)))


@pytest.mark.parametrize("offset", [8, 16])
@pytest.mark.parametrize("count", [1 << 20, 1 << 40, (1 << 64) - 1])
def test_absurd_counts(run_bytes, whole, offset, count):
    assert f"{count:,}" in run_bytes(patched(whole, offset, struct.pack("<Q", count)))


def test_an_unknown_architecture(run_bytes, whole):
    old = struct.pack("<Q", 5) + b"llama"
    sentence = run_bytes(replaced(whole, old, struct.pack("<Q", 5) + b"mamba"))
    assert "'mamba'" in sentence
    assert "gemma3" in sentence


@pytest.mark.parametrize("number", [4, 16, 36, 200, 0xFFFFFFFF])
def test_an_unknown_block_type(run_bytes, whole, number):
    offset = type_offset(whole, b"blk.0.ffn_up.weight")
    sentence = run_bytes(patched(whole, offset, struct.pack("<I", number)))
    assert "blk.0.ffn_up.weight" in sentence


def test_missing_and_left_over_tensors_are_all_named(run_bytes, whole):
    renamed = replaced(whole, b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight")
    renamed = replaced(renamed, b"blk.2.attn_q.weight", b"blk.2.attn_y.weight")
    sentence = run_bytes(renamed)
    for name in ("blk.1.ffn_up", "blk.1.ffn_xx", "blk.2.attn_q", "blk.2.attn_y"):
        assert name in sentence


@pytest.mark.parametrize("size", [1 << 20, 1 << 50, 1 << 63])
def test_an_absurd_shape_takes_no_memory(run_bytes, whole, size):
    offset = tensor_row(whole, b"blk.0.ffn_up.weight") + 4
    assert "blk.0.ffn_up.weight" in run_bytes(patched(whole, offset, struct.pack("<Q", size)))


@pytest.mark.parametrize("offset", [1, 32, 1 << 40, (1 << 64) - 32])
def test_tensors_out_of_place(run_bytes, whole, offset):
    place = type_offset(whole, b"blk.0.ffn_up.weight") + 4
    run_bytes(patched(whole, place, struct.pack("<Q", offset)))


def test_a_tokenizer_that_is_no_utf8(run_bytes, whole):
    broken = replaced(whole, b"tokenizer.ggml.model", b"tokenizer.ggml.\xff\xfe\xfd\xfc\xfb")
    run_bytes(broken)


def test_a_model_without_a_tokenizer(run_bytes, whole):
    sentence = run_bytes(replaced(whole, b"tokenizer.ggml.tokens", b"tokenizer.ggml.tokenz"))
    assert "tokenizer.ggml.tokens" in sentence


def test_a_prompt_longer_than_the_context(run_bytes, whole):
    sentence = run_bytes(whole, "x" * 999, "--context", "100")
    assert "999" in sentence
    assert "100" in sentence
    assert "--context" in sentence


def test_a_context_longer_than_the_model_was_made_for(run_bytes, whole):
    assert "256" in run_bytes(whole, "Hello", "--context", "257")


def test_a_model_that_does_not_fit(run_bytes, whole):
    sentence = run_bytes(whole, "Hello", "--memory", "64KiB")
    assert "64.0 KiB" in sentence
    assert "short" in sentence


@pytest.mark.parametrize("keep", [4, 100, -1])
def test_truncated_safetensors(tmp_path, folder, keep):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    assert "model.safetensors" in refused(tonnage(tmp_path, "run", folder, *RUN))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.json", "{"),
        ("config.json", "[]"),
        ("config.json", "[" * 100_000),
        ("config.json", '{"model_type": "rwkv"}'),
        ("config.json", "{}"),
        ("tokenizer.json", "{"),
        ("tokenizer.json", "{}"),
        ("tokenizer_config.json", "]"),
    ],
)
def test_hostile_json_of_a_folder(tmp_path, folder, file, text):
    (folder / file).write_text(text)
    refused(tonnage(tmp_path, "run", folder, *RUN))


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_with_a_file_missing(tmp_path, folder, file):
    (folder / file).unlink()
    assert file.split(".")[0] in refused(tonnage(tmp_path, "run", folder, *RUN))


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(10**9) %}{% for b in range(10**9) %}x{% endfor %}{% endfor %}",
        "{{ 'x' * 10**10 }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{{ raise_exception('only odd turns') }}",
        "{% if %}",
        "{% include 'x' %}",
    ],
)
def test_a_hostile_chat_template(tmp_path, folder, template):
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    refused(tonnage(tmp_path, "run", folder, *RUN))


def test_paths_that_are_no_models(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in ("nowhere.gguf", "./nowhere", "empty/", ".", "x" * 5000 + ".gguf"):
        refused(tonnage(tmp_path, "run", f"{tmp_path}/{path}", "Hi"))


@pytest.mark.parametrize("command", [("run", "smollm2-135m", "Hi"), ("pull", "smollm2-135m")])
def test_a_cache_that_cannot_be_written(tmp_path, command):
    # Below a file nobody can make a folder, whatever the user's rights.
    (tmp_path / "file").write_text("")
    sentence = refused(tonnage(tmp_path, *command, XDG_CACHE_HOME=str(tmp_path / "file" / "cache")))
    assert "XDG_CACHE_HOME" in sentence
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_no_network(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        index = f"http://127.0.0.1:{closed.getsockname()[1]}/simple"
        done = tonnage(
            tmp_path,
            *("pull", "smollm2-135m"),
            PIP_INDEX_URL=index,
            PIP_EXTRA_INDEX_URL="",
            PIP_FIND_LINKS="",
            PIP_CONFIG_FILE="/dev/null",
            PIP_RETRIES="0",
        )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("tonnage: ")
    models = tmp_path / "cache" / "tonnage" / "models"
    assert not list(models.glob("*/*.gguf"))
    rows = json.loads(tonnage(tmp_path, "list", "--json").stdout)
    assert {row["state"] for row in rows} == {"not pulled"}


def test_offline_fetches_nothing(tmp_path):
    sentence = refused(tonnage(tmp_path, "run", "smollm2-135m", "Hi", "--offline"))
    assert "98,362,432" in sentence
    assert "tonnage pull smollm2-135m" in sentence


@pytest.mark.parametrize(
    "text", ["", "default = 3", "[[model]]\nname = 'x'", "\xff", "[[model]", "x = " + "[" * 9999]
)
def test_a_wrong_catalog(tmp_path, text):
    catalog = tmp_path / "catalog.toml"
    catalog.write_bytes(text.encode("latin-1"))
    for command in (("list",), ("run", "m", "Hi"), ("pull", "m")):
        assert "catalog.toml" in refused(tonnage(tmp_path, *command, "--catalog", catalog))
        assert "catalog.toml" in refused(tonnage(tmp_path, *command, TONNAGE_CATALOG=str(catalog)))


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512"])
def test_every_instruction_set_says_the_same(tmp_path, whole, isa):
    if not has_isa(isa):
        pytest.skip(f"this CPU has no {isa}: not checked")
    path = tmp_path / "model.gguf"
    path.write_bytes(whole)
    best, forced = (
        json.loads(tonnage(tmp_path, "run", path, *RUN, "--json", **changes).stdout)
        for changes in ({}, {"TONNAGE_ISA": isa})
    )
    assert forced["isa"] == isa
    assert forced["tokens"] == best["tokens"]


@pytest.mark.parametrize("isa", ["foo", "AVX2", "avx512 ", "1"])
def test_an_unknown_instruction_set(tmp_path, whole, isa):
    path = tmp_path / "model.gguf"
    path.write_bytes(whole)
    for command in (("run", path, "Hi"), ("doctor",), ("bench", path)):
        sentence = refused(tonnage(tmp_path, *command, TONNAGE_ISA=isa))
        assert "scalar, avx2, avx512" in sentence


@pytest.mark.parametrize("factor", [0.0, float("nan"), float("inf")])
def test_angles_that_would_be_divided_by_nothing(tmp_path, factor):
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64}  # fmt: skip
    config = tiny_config("llama", max_position_embeddings=256, rope_scaling=rope)
    path = write_gguf(tmp_path / "model.gguf", tiny_model(config))
    with GgufFile.open(path) as file:
        offset = file.catalog.tensors["rope_freqs.weight"].offset
    path.write_bytes(patched(path.read_bytes(), offset, struct.pack("<f", factor)))
    with pytest.raises(FileFormatError, match=r"model.gguf: rope_factors holds .*divided by it"):
        Engine.open(str(path), threads=1)
