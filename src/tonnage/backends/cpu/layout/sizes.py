"""Sizes of weights in panels of 32 rows; native/include/tonnage/layout.h describes the layout."""

from tonnage.core.block_format import BlockFormat
from tonnage.core.kv_format import BY_NAME, PAGE_TOKENS
from tonnage.core.rounding import round_up

PANEL_ROWS = 32
BLOCK_COLS = 32
MAX_GROUP_HEADS = 48  # query heads over one key head
WORKER_SCRATCH_BYTES = 273_920  # of each thread: unpacked weights, two panels' products, attention


# Of the formats whose panels are not as large as blocks of the file: bytes of a block of one row.
_PANEL_BLOCK_BYTES = {
    "F64": 4, "F8_E4M3": 2, "MXFP4": 18, "NVFP4": 38, "TQ1_0": 66,
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S"), 106),
    **dict.fromkeys(("IQ3_XXS", "IQ3_S"), 134),
}  # fmt: skip


def panel_bytes(fmt: BlockFormat, cols: int) -> int:
    """Return the bytes of a panel: 32 rows of `cols` elements."""
    per_block = _PANEL_BLOCK_BYTES.get(fmt.name, fmt.block_bytes)
    return fmt.blocks(cols) * per_block * PANEL_ROWS


def load_staging_bytes(source: BlockFormat, target: BlockFormat, cols: int) -> int:
    """Return what each thread holds while it loads: 32 rows as read, and to convert them more.

    That is a panel of the source, a tile of 256 columns of 16 rows in float32, and 32 rows of the
    target.
    """
    rows = PANEL_ROWS * source.nbytes((cols,))
    if source.name == "F8_E4M3":
        rows += PANEL_ROWS * 2 * cols  # the same rows in float16, with their scales
    if source == target:
        return rows
    encoded = PANEL_ROWS * target.blocks(cols) * target.block_bytes
    return rows + panel_bytes(source, cols) + 4 * 256 * 16 + encoded


def acts_bytes(rows: int, cols: int) -> int:
    """Return the bytes of quantized activations: rows of a line per 32, and a line between rows."""
    return rows * (-(-cols // BLOCK_COLS) + 1) * 64


def kv_head_bytes(k_dim: int, v_dim: int, kv_format: str) -> int:
    """Return the bytes of K and V of one key head in one page; V and codes lie by sixteens."""
    page_format = BY_NAME[kv_format]
    k_pad = round_up(k_dim, 16) if page_format.coded else k_dim
    elements = PAGE_TOKENS * (k_pad + round_up(v_dim, 16))
    return page_format.page_bytes(elements, PAGE_TOKENS)
