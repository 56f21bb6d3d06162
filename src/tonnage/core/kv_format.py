"""Formats of keys and values in the pages of the cache: one row of a table each."""

from tonnage.core.record import record

PAGE_TOKENS = 64  # positions of a page


@record
class PageFormat:
    """How an element of K or V is stored.

    bits: of an element. scale_bytes: per position and head, for K and for V each. coded: elements
    are integer codes, so a bias of the keys may be left out of them. divergence: what the format
    alone costs, a mean KL divergence in nats of a model of width 1,024: the geometric mean of four
    models, which lay between 9.0e-4 and 2.0e-3.
    """

    name: str
    bits: int
    scale_bytes: int = 0
    coded: bool = False
    divergence: float = 0.0

    def page_bytes(self, elements: int, positions: int) -> int:
        """Return the bytes of `elements` of K and V together over so many positions, one head."""
        return elements * self.bits // 8 + 2 * self.scale_bytes * positions


# The exact one first; each after it takes fewer bytes and loses more.
PAGE_FORMATS = (
    PageFormat("f16", 16),
    PageFormat("int8", 8, scale_bytes=2, coded=True, divergence=1.4e-3),
)
BY_NAME = {page_format.name: page_format for page_format in PAGE_FORMATS}
