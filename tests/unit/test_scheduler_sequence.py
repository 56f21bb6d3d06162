"""A request's tokens and its pages: what is shared, taken, left, and which rows have logits."""

from array import array

import pytest

from tonnage.kvcache.page_cache import PageCache
from tonnage.kvcache.pages import LOST, PageGroup
from tonnage.kvcache.states import StatePool
from tonnage.scheduler.sequence import Request, Sequence

FULL = PageGroup(24, 1000)
WINDOW = PageGroup(24, 300, window_tokens=70)


class NoBytes:
    """Notes which pages are copied."""

    def __init__(self) -> None:
        self.copied: list[tuple[int, int, int]] = []
        self.states: list[tuple[int, int]] = []

    def copy(self, group: int, source: int, target: int) -> None:
        self.copied.append((group, source, target))

    def release(self, group: int, pages: list[int]) -> None:
        pass

    def copy_state(self, source: int, target: int) -> None:
        self.states.append((source, target))

    def read_state(self, place: int) -> bytes:
        return b""

    def write_state(self, place: int, data: bytes) -> None:
        pass


def pages(*groups: PageGroup) -> PageCache:
    return PageCache(groups or (FULL,), NoBytes())


def asked(num_tokens: int, *more: int, **terms: object) -> Sequence:
    """Return a sequence whose prompt says 1 over and over, and then `more`."""
    prompt = [1] * num_tokens + list(more)
    return Sequence(Request(1, prompt, 9, 0, **terms), array("i", prompt))  # type: ignore[arg-type]


def run(cache: PageCache, one: Sequence, end: int) -> Sequence:
    """Let `one` go on from what is there until `end` of its tokens are computed."""
    if not one.running:
        one.admit(cache, one.match(cache))
    one.grow(cache, end - one.num_computed)
    one.commit(cache, end - one.num_computed)
    cache.check()
    return one


def test_behind_a_window_pages_are_left_and_not_shared_again() -> None:
    cache = pages(FULL, WINDOW)
    first = run(cache, asked(641), 641)
    # A row at 641 looks back to 571, which lies in page 8.
    assert first.tables[1] == [LOST] * 8 + first.tables[1][8:]
    assert LOST not in first.tables[1][8:]
    assert len(first.tables[0]) == len(first.tables[1]) == 11
    assert (cache.pools[0].num_used, cache.pools[1].num_used) == (11, 3)
    second = asked(641, 2)
    second.admit(cache, second.match(cache))
    assert (second.num_computed, second.num_cached) == (640, 640)
    assert second.tables[0] == first.tables[0][:10]
    assert second.tables[1] == [LOST] * 8 + first.tables[1][8:10]
    assert [cache.pools[1].users(page) for page in first.tables[1][8:]] == [2, 2, 1]
    first.release(cache)
    cache.check()
    assert [cache.pools[1].users(page) for page in second.tables[1][8:]] == [1, 1]
    second.release(cache)
    assert (cache.pools[0].num_used, cache.pools[1].num_used) == (0, 0)
    assert (second.running, second.num_computed, second.tables, second.path) == (False, 0, [], [])


def test_a_page_that_agrees_in_part_is_copied_in_every_group() -> None:
    cache = pages(FULL, WINDOW)
    run(cache, asked(100), 100).release(cache)
    moved = cache._bytes
    assert isinstance(moved, NoBytes)
    second = asked(90, 2)
    second.admit(cache, second.match(cache))
    assert second.num_computed == 90
    assert [group for group, _, _ in moved.copied] == [0, 1]
    for group, source, target in moved.copied:
        assert target == second.tables[group][1] != source
        assert (cache.pools[group].users(source), cache.pools[group].users(target)) == (0, 1)


def test_without_a_page_to_copy_to_a_prefix_ends_at_the_border() -> None:
    cache = pages(PageGroup(2, 1000))
    run(cache, asked(100), 100)
    second = asked(90, 2)
    second.admit(cache, second.match(cache))
    assert second.num_computed == second.num_cached == 64


def test_rows_fit_where_every_group_has_pages() -> None:
    cache = pages(PageGroup(3, 1000), PageGroup(2, 300, window_tokens=500))
    one = run(cache, asked(100), 10)
    assert one.rows_that_fit(cache, 500) == 128 - 10
    assert one.rows_that_fit(cache, 30) == 30
    one.grow(cache, 54)
    assert [len(table) for table in one.tables] == [1, 1]
    one.grow(cache, 55)
    assert [len(table) for table in one.tables] == [2, 2]
    one.grow(cache, 0)
    assert [len(table) for table in one.tables] == [2, 2]
    one.shrink(cache)
    assert [len(table) for table in one.tables] == [1, 1]
    assert (cache.pools[0].num_used, cache.pools[1].num_used) == (1, 1)


@pytest.mark.parametrize("is_evicted", [False, True])
def test_pages_that_others_have_computed_meanwhile_are_gone_on_from(is_evicted: bool) -> None:
    cache = pages(FULL, WINDOW)
    slow, quick = asked(300, 2), asked(300, 3)
    run(cache, slow, 64)
    run(cache, quick, 300)
    if is_evicted:
        assert cache.tree.evict(1)  # the second page, behind the quick one's window
    slow.adopt(cache)
    cache.check()
    if is_evicted:
        assert slow.num_computed == 64
        return
    # A row at 256 looks back to 186, which lies in page 2; one at 300 to 230, in page 3.
    assert slow.num_computed == 256
    assert slow.tables[0] == quick.tables[0][:4]
    assert slow.tables[1][:2] == [LOST, LOST]
    assert slow.tables[1][2] == slow.path[2].pages[1] != LOST
    assert slow.tables[1][3] == quick.tables[1][3]


def test_adopted_pages_are_those_of_the_other() -> None:
    cache = pages()
    slow, quick = asked(192), asked(300)
    run(cache, slow, 64)
    run(cache, quick, 300)
    slow.adopt(cache)
    # The last token of its prompt is computed, so its third page is its own.
    assert slow.num_computed == 128
    assert slow.tables[0] == quick.tables[0][:2]
    longer = asked(192, 5)
    run(cache, longer, 192)
    longer.adopt(cache)
    assert (longer.num_computed, longer.num_cached) == (192, 192)


def test_the_last_known_row_alone_has_logits_unless_those_of_the_prompt_are_wanted() -> None:
    plain = asked(5)
    assert [plain.num_logit_rows(rows) for rows in range(1, 6)] == [0, 0, 0, 0, 1]
    scored = asked(5, logits_from=2)
    assert [scored.num_logit_rows(rows) for rows in range(1, 6)] == [0, 0, 1, 2, 3]
    assert list(scored.findable) == [1, 1, 1]
    scored.num_computed = 3
    assert [scored.num_logit_rows(rows) for rows in (1, 2)] == [1, 2]
    assert [asked(5, pooling="mean").num_logit_rows(rows) for rows in (1, 5)] == [0, 0]
    assert list(plain.findable) == [1] * 5
    # Of the last row of a prompt the logits are those of the first sampled token.
    assert asked(5, logits_from=4).first_logit_row == asked(5).first_logit_row == 4


def test_prefill_decode_and_pooling_are_told_apart() -> None:
    one = asked(2)
    assert (one.num_pending, one.is_decoding, one.is_pooled) == (2, False, False)
    one.num_computed = 1
    assert (one.num_pending, one.is_decoding) == (1, True)
    text = asked(1, pooling="last")
    assert (text.num_pending, text.is_decoding, text.is_pooled) == (1, False, True)
    assert asked(1).awaited
    assert not asked(1, live=False).awaited
    one.stalled = True
    assert not one.awaited


@pytest.mark.parametrize(
    ("computed", "num_rows", "expected"),
    [(10, 100, 54), (10, 20, 20), (10, 54, 54), (10, 118, 118), (64, 63, 63), (64, 65, 64)],
)
def test_with_a_state_a_step_ends_at_the_last_border_that_it_comes_to(
    computed: int, num_rows: int, expected: int
) -> None:
    one = asked(500)
    one.num_computed = computed
    assert one.num_to_border(num_rows) == expected
    text = asked(500, pooling="mean")
    text.num_computed = computed
    assert text.num_to_border(num_rows) == num_rows


def test_a_pooled_text_finds_no_prefix_and_leaves_none() -> None:
    cache = pages(FULL, WINDOW)
    run(cache, asked(200), 200).release(cache)
    before = [pool.num_cached for pool in cache.pools]
    text = asked(300, pooling="mean")
    match = text.match(cache)
    assert (match.nodes, match.partial, match.num_tokens) == ((), None, 0)
    text.slot = 2
    for end in (100, 300):
        run(cache, text, end)
    # A row at 300 looks back to 230, which lies in page 3.
    assert text.tables[1][:3] == [LOST] * 3
    assert [pool.num_used for pool in cache.pools] == [5, 2]
    assert [pool.num_cached for pool in cache.pools] == before
    text.release(cache)
    assert (text.running, text.tables, text.num_computed, text.slot) == (False, [], 0, -1)
    assert [pool.num_used for pool in cache.pools] == [0, 0]
    assert [pool.num_cached for pool in cache.pools] == before


def test_the_first_page_is_adopted_too_and_all_but_the_last_token() -> None:
    cache = pages()
    slow = asked(193, salt="s")
    slow.admit(cache, slow.match(cache))
    run(cache, asked(300, salt="s"), 300)
    slow.adopt(cache)
    assert slow.num_computed == 192
    other = asked(193, salt="t")
    other.admit(cache, other.match(cache))
    other.adopt(cache)
    assert other.num_computed == 0


def test_an_end_is_left_behind_and_a_root_without_any_is_not() -> None:
    cache = pages()
    run(cache, asked(20), 20).release(cache)
    assert asked(20, 2).match(cache).num_tokens == 20
    unlucky = asked(20, salt="s")
    cache.tree.root("s")
    unlucky.admit(cache, unlucky.match(cache))
    unlucky.slot = 1
    unlucky.release(cache)
    assert (unlucky.slot, unlucky.path) == (-1, [])
    assert [root.salt for root in cache.tree.roots()] == [""]


def test_who_is_at_the_same_page_is_told_by_its_name() -> None:
    cache = pages()
    first, second, other = asked(200), asked(200, 5), asked(200, salt="s")
    for one in (first, second, other):
        one.admit(cache, one.match(cache))
    assert first.next_page(cache) == second.next_page(cache) != other.next_page(cache)
    run(cache, first, 64)
    assert first.next_page(cache) != second.next_page(cache)
    second.adopt(cache)
    name = first.next_page(cache)
    assert name is not None
    assert name == second.next_page(cache)
    assert name[1] == (1,) * 64
    for size, is_whole in ((63, False), (64, True), (127, True)):
        assert (asked(size).next_page(cache) is not None) == is_whole
    short = run(cache, asked(127, salt="u"), 64)
    assert short.next_page(cache) is None


def test_the_same_page_computed_twice_is_one() -> None:
    cache = pages()
    first, second = asked(100), asked(100, 5)
    for one in (first, second):
        one.admit(cache, one.match(cache))
    for one in (first, second):
        run(cache, one, 64)
    assert first.tables == second.tables
    assert cache.pools[0].users(first.tables[0][0]) == 2
    assert (cache.pools[0].num_used, cache.pools[0].num_free) == (1, 23)


def with_states(num_snapshots: int = 8) -> PageCache:
    return PageCache((FULL,), NoBytes(), states=StatePool(1, num_snapshots, NoBytes()))


def decoded(cache: PageCache, size: int, *ends: int) -> Sequence:
    """Let a request with a prompt of `size` tokens run until each of `ends`, in a step each."""
    one = asked(size)
    one.slot = 0
    for end in ends:
        one.tokens.extend([1] * (end - len(one.tokens)))
        run(cache, one, end)
    return one


@pytest.mark.parametrize(
    ("size", "ends", "kept"),
    [
        (128, (64, 128), [True, True]),  # those of a prompt stay
        (64, (64, 128), [True, True]),
        (64, (64, 128, 192, 256), [True, False, False, True]),  # a completion takes one along
        (100, (64, 128, 192), [True, False, True]),
        (192, (192,), [False, False, True]),  # at the end of a step alone
    ],
)
def test_a_completion_moves_one_snapshot_along(
    size: int, ends: tuple[int, ...], kept: list[bool]
) -> None:
    one = decoded(with_states(), size, *ends)
    assert [node.snapshot != LOST for node in one.path] == kept


def test_a_state_is_left_where_a_sequence_ends() -> None:
    cache = with_states()
    one = decoded(cache, 192, 192)
    path = list(one.path)
    one.release(cache)
    assert [node.snapshot != LOST for node in path] == [False, False, True]
    cache.check()
    one = decoded(cache, 200, 200)
    one.release(cache)
    assert asked(200, 2).match(cache).num_tokens == 200
    assert asked(199, 2).match(cache).num_tokens == 192
    cache.check()


def test_all_pages_behind_the_last_row_are_left() -> None:
    cache = pages()
    one = run(cache, asked(300), 10)
    one.grow(cache, 250)
    assert len(one.tables[0]) == 5
    one.shrink(cache)
    assert len(one.tables[0]) == cache.pools[0].num_used == 1
    run(cache, one, 128)
    one.grow(cache, 1)
    one.shrink(cache)
    assert len(one.tables[0]) == cache.pools[0].num_used == 2


def test_a_state_goes_on_from_a_snapshot_that_others_have_left() -> None:
    moved = NoBytes()
    cache = PageCache((FULL,), NoBytes(), states=StatePool(2, 8, moved))
    slow, apart = asked(300), asked(300)
    for one in (slow, apart):
        one.slot = 1
        one.admit(cache, one.match(cache))
    run(cache, apart, 10)
    quick = decoded(cache, 200, 64, 128, 192, 200)
    snapshots = [node.snapshot for node in quick.path]
    moved.states.clear()
    slow.adopt(cache)
    assert slow.num_computed == 192
    assert slow.tables[0] == quick.tables[0][:3]
    assert moved.states == [(snapshots[2], 1)]
    slow.adopt(cache)
    apart.adopt(cache)
    assert (slow.num_computed, apart.num_computed) == (192, 10), "a state cannot be cut"
    later = asked(100, 2)
    later.slot = 1
    later.admit(cache, later.match(cache))
    assert later.num_computed == 64
    assert moved.states[1:] == [(snapshots[0], 1)]
