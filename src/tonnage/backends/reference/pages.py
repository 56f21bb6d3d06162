"""Pages and states of the reference backend: arrays that appear when they are written."""

import numpy as np
import numpy.typing as npt

from tonnage.core.plan import Plan

Array = npt.NDArray[np.float64]
Page = dict[int, Array]  # index of a layer -> (key heads, positions, k_dim + v_dim)


class Pages:
    """Keys and values by group, page and layer."""

    def __init__(self, plan: Plan) -> None:
        """Take the plan; no page takes memory yet."""
        self._layers = plan.kv.layers
        self._page_tokens = plan.kv.page_tokens
        self._pages: dict[tuple[int, int], Page] = {}

    def write(self, layer: int, table: list[list[int]], position: int, kv: Array) -> None:
        """Store K and V of one position, (key heads, k_dim + v_dim)."""
        group = self._layers[layer].group
        index, row = divmod(position, self._page_tokens)
        self._page(group, table[group][index])[layer][:, row] = kv

    def read(self, layer: int, table: list[list[int]], first: int, end: int) -> Array:
        """Return K and V of positions first..end-1, (key heads, positions, k_dim + v_dim)."""
        group, size = self._layers[layer].group, self._page_tokens
        pages = [
            self._page(group, table[group][index])[layer]
            for index in range(first // size, -(-end // size))
        ]
        begin = first // size * size
        return np.concatenate(pages, axis=1)[:, first - begin : end - begin]

    def page_bytes(self, group: int) -> int:
        """Return the bytes of all layers of a page of `group`."""
        layers = (layer for layer in self._layers if layer.group == group)
        elements = sum(layer.num_heads * (layer.k_dim + layer.v_dim) for layer in layers)
        return 8 * self._page_tokens * elements

    def read_page(self, group: int, page: int) -> bytes:
        """Return all layers of a page."""
        return b"".join(array.tobytes() for array in self._page(group, page).values())

    def write_page(self, group: int, page: int, data: bytes) -> None:
        """Replace a page by what `read_page` gave."""
        values, offset = np.frombuffer(data), 0
        for array in self._page(group, page).values():
            array[:] = values[offset : offset + array.size].reshape(array.shape)
            offset += array.size
        assert offset == values.size

    def release(self, group: int, pages: list[int]) -> None:
        """Forget pages; they read as zero afterwards."""
        for page in pages:
            self._pages.pop((group, page), None)

    def _page(self, group: int, page: int) -> Page:
        if (group, page) not in self._pages:
            self._pages[group, page] = {
                i: np.zeros((layer.num_heads, self._page_tokens, layer.k_dim + layer.v_dim))
                for i, layer in enumerate(self._layers)
                if layer.group == group
            }
        return self._pages[group, page]
