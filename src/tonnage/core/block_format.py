"""Block formats: how many elements share how many bytes.

Sizes follow the GGUF specification (ggml type numbers in `ggml_type`; from 1,000 on, formats that
ggml lacks).
"""

from tonnage.core.errors import UnsupportedTypeError
from tonnage.core.record import record


@record
class BlockFormat:
    """A storage format of weights: `block_elems` consecutive elements of a row in `block_bytes`."""

    name: str
    block_elems: int
    block_bytes: int
    ggml_type: int

    def nbytes(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of a tensor of `shape` (row-major, last axis contiguous).

        Raises UnsupportedTypeError when the last axis is not a whole number of blocks.
        """
        if not shape:
            return self.block_bytes if self.block_elems == 1 else 0
        if shape[-1] % self.block_elems:
            raise UnsupportedTypeError(
                f"{self.name} holds blocks of {self.block_elems} elements, "
                f"which does not divide a row of {shape[-1]}."
            )
        count = 1
        for dim in shape:
            count *= dim
        return count // self.block_elems * self.block_bytes

    def blocks(self, cols: int) -> int:
        """Return the blocks that hold a row of `cols` elements; zeros fill the last one up."""
        return -(-cols // self.block_elems)


F64 = BlockFormat("F64", 1, 8, 28)
F32 = BlockFormat("F32", 1, 4, 0)
F16 = BlockFormat("F16", 1, 2, 1)
BF16 = BlockFormat("BF16", 1, 2, 30)
Q4_0 = BlockFormat("Q4_0", 32, 18, 2)
Q4_1 = BlockFormat("Q4_1", 32, 20, 3)
Q5_0 = BlockFormat("Q5_0", 32, 22, 6)
Q5_1 = BlockFormat("Q5_1", 32, 24, 7)
Q8_0 = BlockFormat("Q8_0", 32, 34, 8)
Q2_K = BlockFormat("Q2_K", 256, 84, 10)
Q3_K = BlockFormat("Q3_K", 256, 110, 11)
Q4_K = BlockFormat("Q4_K", 256, 144, 12)
Q5_K = BlockFormat("Q5_K", 256, 176, 13)
Q6_K = BlockFormat("Q6_K", 256, 210, 14)
IQ4_NL = BlockFormat("IQ4_NL", 32, 18, 20)
IQ4_XS = BlockFormat("IQ4_XS", 256, 136, 23)
MXFP4 = BlockFormat("MXFP4", 32, 17, 39)
NVFP4 = BlockFormat("NVFP4", 64, 36, 40)
IQ1_S = BlockFormat("IQ1_S", 256, 50, 19)
IQ1_M = BlockFormat("IQ1_M", 256, 56, 29)
IQ2_XXS = BlockFormat("IQ2_XXS", 256, 66, 16)
IQ2_XS = BlockFormat("IQ2_XS", 256, 74, 17)
IQ2_S = BlockFormat("IQ2_S", 256, 82, 22)
IQ3_XXS = BlockFormat("IQ3_XXS", 256, 98, 18)
IQ3_S = BlockFormat("IQ3_S", 256, 110, 21)
TQ1_0 = BlockFormat("TQ1_0", 256, 54, 34)
TQ2_0 = BlockFormat("TQ2_0", 256, 66, 35)
Q1_0 = BlockFormat("Q1_0", 128, 18, 41)
Q2_0 = BlockFormat("Q2_0", 64, 18, 42)

ALL_FORMATS = (
    F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0,
    Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4,
    F64, NVFP4, IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, TQ1_0, TQ2_0, Q1_0, Q2_0,
)  # fmt: skip
FLOAT_FORMATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3"})
# Whose matrices may have scales in a tensor of their own.
SCALED_FORMATS = frozenset({"F8_E4M3", "NVFP4"})
# OCP 8-bit floating point, which means little without scales beside it. No type of GGUF.
F8_E4M3 = BlockFormat("F8_E4M3", 1, 1, 1000)
BY_NAME = {fmt.name: fmt for fmt in (*ALL_FORMATS, F8_E4M3)}
BY_GGML_TYPE = {fmt.ggml_type: fmt for fmt in ALL_FORMATS}
