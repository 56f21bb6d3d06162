"""The reference codec against the `gguf` package, bit for bit."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from support import eight_bits
from support.containers import UNKNOWN_TO_GGUF
from tonnage.core import block_format as bf
from tonnage.core.errors import FileFormatError, UnsupportedTypeError
from tonnage.formats.codec import dequantize, quantize, random_blocks

QUANTIZED = [fmt for fmt in bf.ALL_FORMATS if fmt.block_elems > 1]
ENCODED = [bf.Q8_0, bf.Q4_0, bf.Q4_1]
by_name = pytest.mark.parametrize("fmt", bf.ALL_FORMATS, ids=lambda fmt: fmt.name)


def reference(fmt: bf.BlockFormat, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    rows = np.frombuffer(data, np.uint8).reshape(*shape[:-1], -1)
    if fmt is bf.F32:
        return rows.view(np.float32)
    if fmt is bf.F16:
        return rows.view(np.float16).astype(np.float32)
    if fmt.name in UNKNOWN_TO_GGUF:
        return UNKNOWN_TO_GGUF[fmt.name](data).reshape(shape)
    with np.errstate(all="ignore"):
        return quants.dequantize(rows, GGMLQuantizationType(fmt.ggml_type))


def same_bits(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Equal bit for bit; NaNs only have to be NaNs, as their payloads are the processor's."""
    nan = np.isnan(ours)
    bits_equal = ours.view(np.uint32) == np.ascontiguousarray(theirs).view(np.uint32)
    return (
        ours.shape == theirs.shape
        and bool((np.isnan(theirs) == nan).all())
        and bool((bits_equal | nan).all())
    )


@by_name
def test_dequantize_equals_gguf_on_sane_blocks(fmt):
    shape = (3, 5, 4 * fmt.block_elems)
    data = random_blocks(fmt, shape, np.random.default_rng(1))
    ours = dequantize(fmt, data, shape)
    assert ours.dtype == np.float32
    assert np.isfinite(ours).all()
    assert same_bits(ours, reference(fmt, data, shape))


@by_name
def test_dequantize_equals_gguf_on_any_bytes(fmt):
    shape = (512, 2 * fmt.block_elems)
    data = np.random.default_rng(2).bytes(fmt.nbytes(shape))
    assert same_bits(dequantize(fmt, data, shape), reference(fmt, data, shape))


def test_mxfp4_equals_gguf_for_every_exponent_and_code():
    codes = bytes(range(16)) + bytes(16 * value + 15 - value for value in range(16))
    data = b"".join(bytes([e]) + codes[half : half + 16] for e in range(256) for half in (0, 16))
    shape = (512, 32)
    assert same_bits(dequantize(bf.MXFP4, data, shape), reference(bf.MXFP4, data, shape))


def test_nvfp4_equals_gguf_for_every_scale_and_code():
    codes = bytes(range(16)) + bytes(16 * value + 15 - value for value in range(16))
    data = b"".join(bytes([e, 255 - e, e, e]) + codes for e in range(256))
    shape = (256, 64)
    assert same_bits(dequantize(bf.NVFP4, data, shape), reference(bf.NVFP4, data, shape))


def test_eight_bits_are_what_their_specification_says():
    values = dequantize(bf.F8_E4M3, bytes(range(256)), (256,))
    assert np.isnan(values[[127, 255]]).all()
    finite = eight_bits.FINITE
    assert same_bits(values[finite], eight_bits.VALUES[finite].astype(np.float32))


# Where the float16 scale lies; IQ1_M keeps it in pieces.
SCALE_AT = {
    "IQ1_S": 0, "IQ2_XXS": 0, "IQ2_XS": 0, "IQ2_S": 0, "IQ3_XXS": 0, "IQ3_S": 0, "TQ1_0": 52,
    "TQ2_0": 64, "Q1_0": 0, "Q2_0": 0,
}  # fmt: skip


@pytest.mark.parametrize("name", SCALE_AT)
def test_every_float16_is_a_scale(name):
    fmt = bf.BY_NAME[name]
    blocks = np.random.default_rng(3).integers(0, 256, (1 << 12, fmt.block_bytes), dtype=np.uint8)
    halves = np.arange(0, 1 << 16, 16, dtype="<u2")
    halves[:64] = [*range(32), *range(0x7BE0, 0x7C00)]  # subnormal ones, the largest
    blocks[:, SCALE_AT[name] : SCALE_AT[name] + 2] = halves.view(np.uint8).reshape(-1, 2)
    shape = (len(blocks), fmt.block_elems)
    data = blocks.tobytes()
    assert same_bits(dequantize(fmt, data, shape), reference(fmt, data, shape))


@pytest.mark.parametrize("fmt", ENCODED, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 300.0])
def test_quantize_equals_gguf(fmt, scale):
    rng = np.random.default_rng(3)
    values = (rng.standard_normal((64, 96)) * scale).astype(np.float32)
    values[0] = 0.0
    values[2] = scale
    values[3, ::2] = -scale
    values[4] = np.arange(96, dtype=np.float32) - 48
    values[5] = (np.arange(96) % 2 - 0.5) * scale
    theirs = quants.quantize(values, GGMLQuantizationType(fmt.ggml_type))
    assert quantize(fmt, values) == theirs.tobytes()


def test_quantize_treats_minus_zero_as_ggml_does():
    # ggml searches the extreme from +0, so all-zero blocks have one form (gguf-py differs here).
    zeros = np.zeros((1, 32), np.float32)
    assert quantize(bf.Q4_0, -zeros) == quantize(bf.Q4_0, zeros) == b"\x00\x80" + b"\x88" * 16


def test_quantize_bf16_equals_gguf():
    bits = np.random.default_rng(4).integers(0, 1 << 32, 4096, dtype=np.uint32)
    values = bits.view(np.float32)
    values = values[np.abs(values) < 1e38].reshape(1, -1)
    theirs = quants.quantize(values, GGMLQuantizationType.BF16)
    assert quantize(bf.BF16, values) == theirs.tobytes()


@by_name
def test_random_blocks_have_size_and_magnitude(fmt):
    shape = (64, 8 * fmt.block_elems)
    data = random_blocks(fmt, shape, np.random.default_rng(5))
    assert len(data) == fmt.nbytes(shape)
    values = dequantize(fmt, data, shape)
    assert np.abs(values).max() < 3.0
    assert 0.02 < values.std() < 1.0


def test_random_blocks_follow_the_generator():
    first, second = (random_blocks(bf.Q4_K, (2, 256), np.random.default_rng(6)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("fmt", [bf.F16, bf.Q4_0, bf.Q6_K], ids=lambda fmt: fmt.name)
def test_large_tensors_are_decoded_in_chunks(fmt):
    shape = (3, 1 << 19)
    data = random_blocks(fmt, shape, np.random.default_rng(9))
    rows = [data[i * len(data) // 3 : (i + 1) * len(data) // 3] for i in range(3)]
    expected = np.stack([dequantize(fmt, row, (1 << 19,)) for row in rows])
    assert np.array_equal(dequantize(fmt, data, shape), expected)


def test_hand_made_q4_0_block():
    data = np.float16(0.5).tobytes() + bytes([0x1F] + [0x88] * 15)
    values = dequantize(bf.Q4_0, data, (32,))
    assert values[0] == 3.5
    assert values[16] == -3.5
    assert not values[1:16].any()


def test_scalar_and_empty_shapes():
    assert dequantize(bf.F32, np.float32(2.5).tobytes(), ()) == np.float32(2.5)
    assert dequantize(bf.F32, b"", (0, 4)).shape == (0, 4)
    assert dequantize(bf.Q8_0, b"", (0, 32)).shape == (0, 32)
    assert quantize(bf.Q8_0, np.zeros((0, 32), np.float32)) == b""


def test_dequantize_reads_any_buffer():
    data = random_blocks(bf.Q6_K, (2, 256), np.random.default_rng(7))
    expected = dequantize(bf.Q6_K, data, (2, 256))
    odd = memoryview(b"x" + data)[1:]
    assert np.array_equal(dequantize(bf.Q6_K, odd, (2, 256)), expected)
    assert np.array_equal(dequantize(bf.Q6_K, bytearray(data), (512,)), expected.reshape(-1))


@pytest.mark.parametrize("fmt", QUANTIZED, ids=lambda fmt: fmt.name)
def test_wrong_sizes_are_refused(fmt):
    shape = (2, fmt.block_elems)
    with pytest.raises(FileFormatError, match=f"{fmt.nbytes(shape)} bytes, not 1"):
        dequantize(fmt, b"x", shape)
    with pytest.raises(UnsupportedTypeError, match="does not divide"):
        dequantize(fmt, b"x", (2, fmt.block_elems + 1))
    with pytest.raises(UnsupportedTypeError, match="does not divide"):
        random_blocks(fmt, (2, fmt.block_elems - 1), np.random.default_rng(8))


def test_quantize_refuses_what_it_cannot_store():
    ones = np.ones((2, 256), np.float32)
    with pytest.raises(UnsupportedTypeError, match="Q4_K can be read but not written"):
        quantize(bf.Q4_K, ones)
    with pytest.raises(FileFormatError, match="1 of 512 values are not finite"):
        quantize(bf.Q8_0, np.where(np.arange(512).reshape(2, 256) == 7, np.nan, ones))
    for fmt in ENCODED:
        huge = np.where(np.arange(512).reshape(2, 256) % 32 == 0, np.float32(-1e38), ones)
        with pytest.raises(FileFormatError, match="16 of 16 blocks hold values too large"):
            quantize(fmt, huge)
    with pytest.raises(FileFormatError, match="exceeds what F16 holds"):
        quantize(bf.F16, ones * np.float32(7e4))
