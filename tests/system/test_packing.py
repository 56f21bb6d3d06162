"""`tonnage calibrate` and `tonnage pack` on tiny models, against float64 and other readers."""

import json
import random
import resource
import struct
import subprocess
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf, write_hf
from support.command import COMMAND, environment, refused, tonnage
from tonnage.backends.protocol import Span
from tonnage.backends.reference.backend import ReferenceBackend
from tonnage.core.errors import PackError
from tonnage.engine.engine import Engine
from tonnage.packing.calibration import read_calibration

CONFIG = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3}


def words(count: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("etaonihsrdlu", k=5)) for _ in range(count))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Holds a model in F16 and in Q8_0, its calibration, another model, and a text."""
    folder = tmp_path_factory.mktemp("packing")
    model = tiny_model(tiny_config("llama", **CONFIG))
    write_gguf(folder / "f16.gguf", model, matrices("F16"))
    write_gguf(folder / "q8.gguf", model, matrices("Q8_0"))
    write_gguf(folder / "small.gguf", tiny_model(tiny_config("llama")), matrices("F16"))
    (folder / "text").write_text(words(400))
    done = calibrate(folder, "f16.gguf", folder / "cal.safetensors")
    assert done.returncode == 0, done.stderr
    return folder


def calibrate(folder: Path, model: str, output: Path, **more: str):
    args = ("calibrate", folder / model, "--text", folder / "text", "--chunks", 1, "-o", output)
    return tonnage(folder, *args, **more)


def pack(folder: Path, output: Path, *args: object, model: str = "f16.gguf"):
    done = tonnage(folder, "pack", folder / model, "-o", output, "--json", *args)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize("form", ["F16", "Q8_0"])
def test_what_is_watched_is_what_the_reference_multiplies(form: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", tiny_model(tiny_config("gemma3_text")), matrices(form))
    tokens, found = list(range(5, 65)), []
    for backend in (None, ReferenceBackend()):
        sums: dict[str, np.ndarray] = {}

        def add(names: tuple[str, ...], rows: bytes, sums: dict[str, np.ndarray] = sums) -> None:
            values = np.frombuffer(rows, np.float32).reshape(len(tokens), -1)
            sums.update({name: np.square(values, dtype=np.float64).sum(axis=0) for name in names})

        with Engine.open(
            str(path), context=128, max_logit_rows=64, kv_format="f16", backend=backend
        ) as engine:
            pages = [list(range(group.num_pages)) for group in engine.plan.kv.groups]
            engine.runtime.watch(tokens, [Span(pages, len(tokens), 0)], add)
        found.append(sums)
    ours, exact = found
    matrices_of_model = {n for n in exact if n.startswith("layers.")} | {"embed"}
    assert ours.keys() == exact.keys() == matrices_of_model
    for name, values in exact.items():
        assert np.abs(ours[name] - values).max() < 0.05 * values.max(), name


def test_a_calibration_is_the_same_bytes_for_any_threads_and_instruction_set(folder, tmp_path):
    done = calibrate(folder, "f16.gguf", tmp_path / "again.safetensors", TONNAGE_ISA="scalar")
    assert "f16.gguf on 512 tokens" in done.stdout
    again = (tmp_path / "again.safetensors").read_bytes()
    assert again == (folder / "cal.safetensors").read_bytes()
    moments = load_file(tmp_path / "again.safetensors")
    assert len(moments) >= 3 * 7
    assert moments["blk.0.ffn_down.weight"].shape == (512,)
    assert all((values >= 0).all() for values in moments.values())
    assert read_calibration(folder / "cal.safetensors").num_tokens == 512


def test_a_packed_file_keeps_its_target_and_everything_else(folder, tmp_path):
    size = (folder / "f16.gguf").stat().st_size
    out = tmp_path / "out.gguf"
    args = ("--target", size // 3, "--calibration", folder / "cal.safetensors")
    report = pack(folder, out, *args)
    assert report["file_bytes"] == out.stat().st_size <= size // 3
    ours, theirs = gguf.GGUFReader(out), gguf.GGUFReader(folder / "f16.gguf")
    for key, field in theirs.fields.items():
        if not key.startswith("GGUF.") and key != "general.file_type":
            assert ours.fields[key].contents() == field.contents(), key
    assert [one.name for one in ours.tensors] == [one.name for one in theirs.tensors]
    values = {k: f.contents() for k, f in ours.fields.items() if k.startswith("tonnage.pack.")}
    assert len(values["tonnage.pack.source_sha256"]) == 64
    assert values["tonnage.pack.recipe"] == f"at most {size // 3} bytes"
    for one, other in zip(ours.tensors, theirs.tensors, strict=True):
        exact = gguf.quants.dequantize(other.data, other.tensor_type)
        held = gguf.quants.dequantize(one.data, one.tensor_type)
        assert np.linalg.norm(held - exact) <= 0.4 * np.linalg.norm(exact), one.name
    # The same bytes each time, however many threads.
    pack(folder, tmp_path / "again.gguf", *args, "--threads", 1)
    assert (tmp_path / "again.gguf").read_bytes() == out.read_bytes()
    done = tonnage(tmp_path, "run", out, "etaon", "--max-tokens", 2, "--raw")
    assert done.returncode == 0, done.stderr


def test_more_bytes_lose_less_and_a_bound_is_kept(folder, tmp_path):
    size = (folder / "f16.gguf").stat().st_size
    lost = [
        pack(folder, tmp_path / "out.gguf", "--target", size * share // 100)["estimated_kld"]
        for share in (30, 40, 50, 60)
    ]
    assert lost == sorted(lost, reverse=True)
    assert lost[-1] < lost[0]
    bounded = pack(folder, tmp_path / "out.gguf", "--max-kld", 0.05)
    assert 0 < bounded["estimated_kld"] <= 0.05
    assert bounded["file_bytes"] < size


def test_what_a_large_step_frees_is_used(tmp_path):
    """Half of the bytes are one table, whose hull may skip formats that fit."""
    config = tiny_config("llama", hidden_size=96, vocab_size=4096, num_hidden_layers=1)
    write_gguf(tmp_path / "m.gguf", tiny_model(config), matrices("Q8_0"))
    size = (tmp_path / "m.gguf").stat().st_size
    found = [
        pack(tmp_path, tmp_path / "out.gguf", "--target", size * share // 100, model="m.gguf")
        for share in (70, 75, 80, 90)
    ]
    lost = [one["estimated_kld"] for one in found]
    assert lost == sorted(lost, reverse=True)
    table = gguf.GGUFReader(tmp_path / "out.gguf").tensors
    held = {one.name: one.tensor_type.name for one in table}
    assert held["token_embd.weight"] in ("Q5_1", "Q8_0")
    assert found[2]["file_bytes"] > 0.95 * size * 80 / 100


def test_a_source_that_fits_keeps_its_weights(folder, tmp_path):
    report = pack(folder, tmp_path / "out.gguf", "--target", "1GiB", model="q8.gguf")
    assert report["estimated_kld"] == 0
    ours, theirs = gguf.GGUFReader(tmp_path / "out.gguf"), gguf.GGUFReader(folder / "q8.gguf")
    for one, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert one.data.tobytes() == other.data.tobytes()


def imatrix_dat(entries: dict[str, np.ndarray], calls: int = 3) -> bytes:
    parts = [struct.pack("<i", len(entries))]
    for name, means in entries.items():
        raw = name.encode()
        parts.append(struct.pack("<i", len(raw)) + raw + struct.pack("<2i", calls, len(means)))
        parts.append((means * calls).astype("<f4").tobytes())
    return b"".join(parts) + struct.pack("<i", 1)


def test_importance_matrices_of_llama_cpp_say_the_same(folder, tmp_path):
    moments = load_file(folder / "cal.safetensors")
    (tmp_path / "m.dat").write_bytes(imatrix_dat(moments))
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "")
    writer.add_type("imatrix")
    for name, means in moments.items():
        writer.add_tensor(f"{name}.in_sum2", (means * 4)[None].astype(np.float32))
        writer.add_tensor(f"{name}.counts", np.full((1, 1), 4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for name in ("m.dat", "m.gguf"):
        found = read_calibration(tmp_path / name)
        assert found.moments.keys() == moments.keys()
        for key, means in moments.items():
            np.testing.assert_allclose(found.moments[key], means, rtol=1e-6)
    pack(folder, tmp_path / "out.gguf", "--target", "700KiB", "--calibration", tmp_path / "m.dat")


def test_fused_tensors_change_as_one(folder, tmp_path):
    model = tiny_model(tiny_config("phi3", **CONFIG))
    path = write_gguf(tmp_path / "m.gguf", model, matrices("F16"))
    tensors = gguf.GGUFReader(path).tensors
    means = {
        one.name: np.linspace(0.5, 4, int(one.shape[0]))
        for one in tensors
        if len(one.shape) == 2 and one.name.startswith("blk.")
    }
    assert "blk.0.attn_qkv.weight" in means
    (tmp_path / "m.dat").write_bytes(imatrix_dat(means))
    size = path.stat().st_size
    args = ("--target", size // 3, "--calibration", tmp_path / "m.dat")
    report = pack(tmp_path, tmp_path / "out.gguf", *args, model="m.gguf")
    assert size // 4 < report["file_bytes"] <= size // 3
    held = {
        one.name: one.tensor_type.name for one in gguf.GGUFReader(tmp_path / "out.gguf").tensors
    }
    assert held["blk.0.attn_qkv.weight"] not in ("F16", "F32")
    assert tonnage(tmp_path, "show", tmp_path / "out.gguf").returncode == 0


def test_damaged_importance_matrices(folder, tmp_path):
    whole = imatrix_dat({"blk.0.attn_q.weight": np.ones(256)})
    path = tmp_path / "m.dat"
    for data in (b"", whole[:20], whole[:200], struct.pack("<i", -1) + whole[4:],
                 struct.pack("<2i", 1, 1 << 30), imatrix_dat({"a": np.array([np.nan])}),
                 imatrix_dat({"a": np.array([-1.0])})):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(PackError):
            read_calibration(path)


@pytest.mark.parametrize(
    ("metadata", "dtype", "value"),
    [(None, "F32", 1.0), ([], "F32", 1.0), ({"kind": "x"}, "F32", 1.0),
     ({"kind": "tonnage.calibration"}, "F16", 1.0), ({"kind": "tonnage.calibration"}, "F32", -1.0)],
)  # fmt: skip
def test_damaged_calibrations(tmp_path, metadata, dtype, value):
    place = [0, 4 if dtype == "F32" else 2]
    header = {"a": {"dtype": dtype, "shape": [1], "data_offsets": place}, "__metadata__": metadata}
    text = json.dumps(header).encode()
    data = struct.pack("<f", value)[: place[1]]
    path = tmp_path / "c.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    with pytest.raises(PackError):
        read_calibration(path)


def test_what_cannot_be_packed_is_said_and_nothing_is_written(folder, tmp_path):
    out = tmp_path / "out.gguf"
    plain = ("pack", folder / "f16.gguf", "-o", out)
    other = ("pack", folder / "small.gguf", "-o", out)
    cal = ("--calibration", folder / "cal.safetensors")
    write_hf(tmp_path / "hf", tiny_model(tiny_config("llama")))
    for args, sentence in (
        ((*plain, "--target", "10KiB"), "less than the smallest file possible: "),
        ((*plain,), "--target 420MiB, or --max-kld"),
        ((*plain, "--max-kld", 0), "above 0"),
        ((*other, "--target", "1GiB", *cal), "another model"),
        ((*plain, "--target", "1GiB", "--calibration", folder / "text"), "no calibration"),
        (("pack", folder / "f16.gguf", "-o", folder / "f16.gguf", "--target", "1GiB"), "itself"),
        (("pack", tmp_path / "hf", "-o", out, "--target", "1GiB"), "only GGUF files"),
    ):
        assert sentence in refused(tonnage(folder, *args)), args
    short = tmp_path / "short"
    short.write_text("too short")
    args = ("calibrate", folder / "f16.gguf", "--text", short, "-o", tmp_path / "c.safetensors")
    assert "needs at least 512" in refused(tonnage(folder, *args))
    assert {path.name for path in tmp_path.iterdir()} == {"hf", "short"}


def test_a_full_disk_leaves_nothing(folder, tmp_path):
    done = subprocess.run(
        [*COMMAND, "pack", folder / "f16.gguf", "-o", tmp_path / "out.gguf", "--target", "1GiB"],
        env=environment(folder), capture_output=True, text=True, check=False, timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
    )  # fmt: skip
    assert "no room for the file" in refused(done)
    assert not list(tmp_path.iterdir())
