"""Folders whose matrices are FP8 E4M3 with scales beside them, as published; no product code.

Values follow the OCP 8-bit Floating Point Specification 1.0, spelled out here once more.
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np


def _value(code: int) -> float:
    exponent, fraction = code >> 3 & 15, code & 7
    size = (8 + fraction) * 2.0 ** (exponent - 10) if exponent else fraction * 2.0**-9
    return -size if code & 128 else size


VALUES = np.array([_value(code) for code in range(256)])
FINITE = np.array([code for code in range(256) if code & 127 != 127], np.uint8)
BLOCK = 128
KINDS = ("blocks", "bf16 blocks", "tensor", "scalar", "rows", "none")


def scale_of(kind: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray | None:
    """Return random scales (float32; exact in bfloat16 for that kind), None for none."""
    rows, cols = shape
    sizes: dict[str, tuple[int, ...]] = {
        "blocks": (-(-rows // BLOCK), -(-cols // BLOCK)), "tensor": (1,), "scalar": (),
        "rows": (rows, 1),
    }  # fmt: skip
    if kind == "none":
        return None
    size = sizes[kind.removeprefix("bf16 ")]
    scales = np.asarray(np.exp(rng.uniform(-8, -5, size)), np.float32)
    if kind.startswith("bf16"):
        scales = (scales.view(np.uint32) & 0xFFFF0000).view(np.float32)
    return scales


def spread(scales: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    """Return a scale for every element."""
    if scales is None:
        return np.ones(shape)
    wide = np.asarray(scales, np.float64)
    if (wide.ndim == 2 and wide.shape[1] > 1) or (wide.ndim == 2 and wide.shape[0] != shape[0]):
        wide = np.kron(wide, np.ones((BLOCK, BLOCK)))[: shape[0], : shape[1]]
    return np.broadcast_to(wide, shape)


def to_eight_bits(folder: Path, kind: str, chosen: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """Replace matrices of a float32 folder whose names are `chosen` by random ones in E4M3.

    Return the float64 values of all of them by name.
    """
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    rng = np.random.default_rng(9)
    stored: dict[str, tuple[str, list[int], bytes]] = {}
    values = {}
    for name, info in header.items():
        begin, end = (8 + length + at for at in info["data_offsets"])
        shape = tuple(info["shape"])
        if not chosen(name):
            stored[name] = (info["dtype"], list(shape), raw[begin:end])
            continue
        codes, scales = rng.choice(FINITE, shape), scale_of(kind, shape, rng)
        if scales is None:
            codes = codes & 0xBF  # below 2
        stored[name] = ("F8_E4M3", list(shape), codes.tobytes())
        values[name] = VALUES[codes] * spread(scales, shape)
        if scales is not None:
            word = "weight_scale_inv" if "blocks" in kind else "weight_scale"
            data, dtype = scales.tobytes(), "F32"
            if kind.startswith("bf16"):
                data, dtype = (scales.view(np.uint32) >> 16).astype(np.uint16).tobytes(), "BF16"
            scale_name = name.removesuffix("weight") + word
            stored[scale_name] = (dtype, list(scales.shape), data)
            stored[name.removesuffix("weight") + "input_scale"] = ("F32", [1], bytes(4))
    _write(path, stored)
    return values


def _write(path: Path, tensors: dict[str, tuple[str, list[int], bytes]]) -> None:
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
