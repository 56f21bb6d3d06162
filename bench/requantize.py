"""How exact and how fast re-quantizing while loading is, beside ggml's own quantizers.

The error is the root mean square of what a format loses over the root mean square of the values.
ggml is reached through the shared library of the package llama_cpp of another interpreter, without
an importance matrix: it minimises a weighted error, this the plain one, so below 1 is expected.

Run: python bench/requantize.py [MODEL.gguf ...] [--ggml LIBGGML_BASE.so] [--rows 512]
"""

import argparse
import ctypes
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# The wrappers of the kernels belong to the tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kernel_ops import wrappers
from kernel_ops.arena import KernelArena, Matrix
from tonnage._native import Executor, best_isa
from tonnage.backends.cpu.layout.sizes import panel_bytes
from tonnage.core.block_format import BY_NAME, F32, BlockFormat
from tonnage.core.mix import PLAIN_FORMATS, TARGETS
from tonnage.formats.codec import dequantize
from tonnage.formats.gguf import GgufFile

SAMPLES = ("attn_q", "attn_v", "attn_output", "ffn_up", "ffn_down", "token_embd")


def matrices(paths: list[Path], rows: int) -> Iterator[tuple[str, BlockFormat, np.ndarray]]:
    """Yield (name, own format, float32 values): random ones, then some of every model."""
    rng = np.random.default_rng(1)
    yield "normal", F32, rng.standard_normal((rows, 2048)).astype(np.float32)
    yield "student t5", F32, rng.standard_t(5, (rows, 2048)).astype(np.float32)
    for path in paths:
        with GgufFile.open(str(path)) as file:
            for entry in file.catalog.tensors.values():
                stem = entry.name.removesuffix(".weight").split(".")[-1]
                layer = entry.name.split(".")[1]
                if stem in SAMPLES and layer in ("weight", "7"):
                    shape = (min(rows, entry.shape[0]), entry.shape[1])
                    raw = bytes(file.tensor_buffer(entry.name)[: entry.format.nbytes(shape)])
                    values = dequantize(entry.format, raw, shape)
                    yield f"{path.stem} {entry.name}", entry.format, values


def bits_of(fmt: BlockFormat) -> float:
    """Return the bits of a weight."""
    return 8 * fmt.block_bytes / fmt.block_elems


def relative_error(values: np.ndarray, held: np.ndarray) -> float:
    """Return the root mean square of the difference over that of the values."""
    return float(np.linalg.norm(held.astype(np.float64) - values) / np.linalg.norm(values))


def ggml_error(library: ctypes.CDLL, target: str, values: np.ndarray) -> float:
    """Return the error of ggml's quantizer of `target`."""
    fmt = BY_NAME[target]
    rows, cols = values.shape
    out = ctypes.create_string_buffer(fmt.nbytes(values.shape))
    source = np.ascontiguousarray(values)
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk(
        fmt.ggml_type, source.ctypes.data_as(ctypes.c_void_p), out, ctypes.c_int64(0),
        ctypes.c_int64(rows), ctypes.c_int64(cols), None,
    )  # fmt: skip
    return relative_error(values, dequantize(fmt, out.raw, values.shape))


def speed(team: Executor, target: str) -> float:
    """Return millions of weights per second, read, decoded, quantized and packed by `team`."""
    rng = np.random.default_rng(2)
    rows, cols = 2048, 4096
    values = rng.standard_normal((rows, cols)).astype(np.float32)
    matrix = Matrix(F32, values.tobytes(), (rows, cols))
    bench = KernelArena(team, max_rows=1)
    fmt = BY_NAME[target]
    stride = panel_bytes(fmt, cols)
    offset = bench.space(stride * (rows // 32))
    best = float("inf")
    for _ in range(3):
        begin = time.perf_counter()
        bench.load(matrix, (offset, fmt.ggml_type, rows, cols, stride))
        best = min(best, time.perf_counter() - begin)
    return rows * cols / best / 1e6


def main() -> None:
    """Print one JSON object a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("models", type=Path, nargs="*")
    parser.add_argument("--ggml", type=Path, help="libggml-base.so to compare with")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    team = Executor(best_isa(), args.threads)
    library = ctypes.CDLL(str(args.ggml)) if args.ggml else None
    for name, own, values in matrices(args.models, args.rows):
        whole = Matrix(F32, values.tobytes(), values.shape)
        for target in TARGETS if values.shape[1] % 256 == 0 else PLAIN_FORMATS:
            if bits_of(BY_NAME[target]) >= bits_of(own):
                continue  # loading never goes up
            held = wrappers.packed_rows(team, whole, BY_NAME[target])
            line = {
                "weights": name,
                "own": own.name,
                "target": target,
                "error": relative_error(values, held),
            }
            if library:
                line["ggml"] = ggml_error(library, target, values)
                line["ratio"] = line["error"] / line["ggml"]
            print(json.dumps(line), flush=True)
    for target in TARGETS:
        line = {"target": target, "million_weights_per_s": speed(team, target)}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
