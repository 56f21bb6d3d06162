"""SHA-256 of logits: whether a change of the code changed one bit of what models compute.

The models are tiny random checkpoints of every family, and any GGUF that is named. The weights come
from a seed and from the `gguf` package alone; their own digest tells a changed checkpoint from a
changed engine.

Regenerate, where a result is meant to change: PYTHONPATH=tests python -m support.logit_hashes
Hash the GGUF files that are named instead:    PYTHONPATH=tests python -m support.logit_hashes FILE
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import gguf
import numpy as np

from support.checkpoints import (
    FAMILIES,
    LLAMA3,
    Chooser,
    matrices,
    tiny_config,
    tiny_model,
    write_gguf,
)
from support.driver import chunked_logits, open_runtime
from support.tiny_families import WIDE
from tonnage._native import has_isa
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import KV_FORMATS, KvFormat
from tonnage.formats.gguf import GgufFile
from tonnage.machine.isa import ISAS
from tonnage.models.registry import spec_from_gguf
from tonnage.planner.quality.precision import precision_formats

STORED = Path(__file__).parents[1] / "golden" / "logit_hashes.json"
NUM_POSITIONS = 64
THREADS = (1, 2)
# Decode of one row, short and long prefill.
CHUNKS = (1, 7, 40, 16)
SIMPLE_FORMATS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
# Where a block of the GGUF specification holds float16 fields, by format.
HALF_FIELDS = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "IQ4_NL": (0,),
    "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
    "IQ4_XS": (0,), "IQ1_S": (0,), "IQ2_XXS": (0,), "IQ2_XS": (0,), "IQ2_S": (0,), "IQ3_XXS": (0,),
    "IQ3_S": (0,), "TQ1_0": (52,), "TQ2_0": (64,),
}  # fmt: skip
SUPER_BLOCKS = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS")
EVERY_FORMAT = (*SIMPLE_FORMATS, *SUPER_BLOCKS, "IQ4_NL", "MXFP4")
FEW_BITS = (
    "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "TQ1_0", "TQ2_0", "NVFP4",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A tiny checkpoint: its family, changed settings, formats of its matrices, how it is loaded.

    formats: cycled over the matrices. precision: what float matrices become while loading.
    """

    family: str
    changes: dict[str, object] = field(default_factory=dict)
    formats: tuple[str, ...] = SIMPLE_FORMATS
    precision: str | None = None
    num_positions: int = NUM_POSITIONS


LARGE = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64}
# No multiple of 32, nor heads of 16.
ODD = {
    "hidden_size": 100, "intermediate_size": 179, "head_dim": 100, "num_attention_heads": 3,
    "num_key_value_heads": 1,
}  # fmt: skip
CASES = {
    **{family: Case(family) for family in FAMILIES},
    "llama, Llama-3 rope": Case("llama", {"rope_theta": 5e5, "rope_scaling": LLAMA3}),
    "llama, three pages": Case("llama", num_positions=150),
    "qwen3, 8bit": Case("qwen3", formats=("BF16",), precision="8bit"),
    "qwen3, 4bit": Case("qwen3", LARGE, formats=("BF16",), precision="4bit"),
    "qwen3, every format": Case("qwen3", LARGE, formats=EVERY_FORMAT),
    "qwen3, few bits": Case("qwen3", LARGE, formats=FEW_BITS),
    "gemma3_text, odd sizes": Case("gemma3_text", ODD, formats=("F32", "F16", "BF16")),
    "olmo2, odd sizes, 4bit": Case("olmo2", ODD, formats=("F16",), precision="4bit"),
}


def write_case(path: Path, case: Case) -> Path:
    """Write the checkpoint of `case` as GGUF."""
    changes = {**WIDE.get(case.family, {}), **case.changes}
    model = tiny_model(tiny_config(case.family, **changes))
    encode = random_blocks if case.formats in (EVERY_FORMAT, FEW_BITS) else gguf.quants.quantize
    return write_gguf(path, model, _cycling(case.formats), encode)


def _cycling(formats: Sequence[str]) -> Chooser:
    names = cycle(formats)
    return lambda name, shape: matrices(next(names))(name, shape) if len(shape) == 2 else "F32"


def random_blocks(values: np.ndarray, kind: gguf.GGMLQuantizationType) -> np.ndarray:
    """Return rows of random blocks of `kind` in the shape of `values`, decoding to below 0.5."""
    block_elems, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng([int(kind), *values.shape])
    num_rows, num_cols = values.shape
    if block_elems == 1:
        plain = rng.standard_normal(values.shape).astype(np.float32) * np.float32(0.3)
        return gguf.quants.quantize(plain, kind)
    blocks = rng.integers(0, 256, (num_rows * num_cols // block_elems, block_bytes), np.uint8)
    if kind.name == "MXFP4":
        blocks[:, 0] = rng.integers(118, 125, len(blocks))  # Powers of two from 2^-9 to 2^-3.
    if kind.name == "NVFP4":
        blocks[:, :4] = rng.integers(0, 32, (len(blocks), 4))  # To 2^-4 of half a scale.
    if kind.name == "IQ1_M":
        blocks[:, 49::2] &= 15  # Four bits each of a float16, here of 2^-7.
        blocks[:, 55] |= 0x20
    fields = HALF_FIELDS.get(kind.name, ())
    for offset in fields:
        blocks[:, offset : offset + 2] = _halves(np.ones(len(blocks)))
    largest = np.abs(gguf.quants.dequantize(blocks, kind)).max()
    for offset in fields:
        blocks[:, offset : offset + 2] = _halves(rng.uniform(0.1, 0.5, len(blocks)) / largest)
    return blocks.reshape(num_rows, -1)


def _halves(values: np.ndarray) -> np.ndarray:
    return values.astype("<f2").view(np.uint8).reshape(-1, 2)


def weights_digest(path: Path) -> str:
    """Return the SHA-256 of all tensors of a GGUF, names and bytes, as the `gguf` package reads."""
    digest = hashlib.sha256()
    for tensor in sorted(gguf.GGUFReader(path).tensors, key=lambda tensor: tensor.name):
        digest.update(tensor.name.encode() + b"\0" + tensor.tensor_type.name.encode() + b"\0")
        digest.update(np.ascontiguousarray(tensor.data).tobytes())
    return digest.hexdigest()


def read_spec(path: Path) -> ModelSpec:
    """Return the model of a GGUF, read by the product."""
    with GgufFile.open(path) as file:
        return spec_from_gguf(file.metadata, file.catalog)


def logits_digest(
    spec: ModelSpec, isa: str, threads: int, kv_format: KvFormat, *,
    formats: tuple[tuple[str, str], ...] = (), num_positions: int = NUM_POSITIONS,
) -> str:  # fmt: skip
    """Return the SHA-256 of the float32 logits of every position of a fixed random text."""
    tokens = np.random.default_rng(7).integers(0, spec.vocab_size, num_positions).tolist()
    runtime = open_runtime(
        spec, isa, threads, context_tokens=192, concurrency=1, formats=formats,
        kv_format=kv_format,
    )  # fmt: skip
    logits = chunked_logits(runtime, tokens, CHUNKS)
    runtime.close()
    assert logits.shape == (num_positions, spec.vocab_size)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    return hashlib.sha256(logits.tobytes()).hexdigest()


def isas_here() -> tuple[str, ...]:
    """Return the instruction sets whose kernels are built and run on this CPU."""
    return tuple(isa for isa in ISAS if has_isa(isa))


def digests(spec: ModelSpec, case: Case, kv_format: KvFormat) -> dict[str, str]:
    """Return the digest of each run: `isa, threads`."""
    return {
        f"{isa}, {threads}": logits_digest(
            spec, isa, threads, kv_format,
            formats=precision_formats(spec, case.precision), num_positions=case.num_positions,
        )
        for isa in isas_here() for threads in THREADS
    }  # fmt: skip


def the_one(found: dict[str, str]) -> str:
    """Return the digest on which all runs agree."""
    assert len(set(found.values())) == 1, f"runs differ: {found}"
    return next(iter(found.values()))


def hash_cases(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each case with the digests of its weights and of its logits by KV format."""
    for name, case in CASES.items():
        path = write_case(folder / "model.gguf", case)
        spec = read_spec(path)
        logits = {kv: the_one(digests(spec, case, kv)) for kv in KV_FORMATS}
        yield name, {"weights": weights_digest(path), **logits}


def _main(files: Sequence[str]) -> None:
    for file in files:
        spec = read_spec(Path(file))
        for kv_format in KV_FORMATS:
            for run, digest in digests(spec, Case(spec.family), kv_format).items():
                print(f"{Path(file).stem}, {kv_format}, {run}: {digest}", flush=True)
    if not files:
        with TemporaryDirectory() as folder:
            stored = dict(hash_cases(Path(folder)))
        STORED.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    _main(sys.argv[1:])
