"""A pool of pages refuses to be used wrongly."""

import pytest

from tonnage.kvcache.pages import PagePool


def test_a_page_without_users_is_neither_dropped_nor_kept() -> None:
    pool = PagePool(2)
    page = pool.take()
    pool.drop(page)
    with pytest.raises(AssertionError, match="no user"):
        pool.drop(page)
    with pytest.raises(AssertionError, match="not in use"):
        pool.keep(page)
    pool.check()
    assert (pool.num_free, pool.num_used, pool.num_cached) == (2, 0, 0)
