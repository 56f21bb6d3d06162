"""Which requests find pages: for all tokens known so far, and one to spare where more may come."""

from array import array

import pytest

from tonnage.kvcache.page_cache import PageCache
from tonnage.kvcache.pages import PageGroup
from tonnage.scheduler.admission import Admission
from tonnage.scheduler.limits import SchedulerLimits
from tonnage.scheduler.sequence import Request, Sequence

LIMITS = SchedulerLimits(
    max_running=8, max_batch_tokens=64, max_logit_rows=8, context_tokens=1000,
    max_stall_ns=40_000,
)  # fmt: skip


class NoBytes:
    """Pages that nobody reads."""

    def copy(self, group: int, source: int, target: int) -> None:
        pass

    def release(self, group: int, pages: list[int]) -> None:
        pass


class Pages:
    """A pool for each group, and who finds pages in it."""

    def __init__(self, num_pages: int, window_pages: int | None = None) -> None:
        groups = [PageGroup(num_pages, 1000)]
        if window_pages is not None:
            groups.append(PageGroup(window_pages, 300, window_tokens=70))
        self.cache = PageCache(groups, NoBytes())
        self.admission = Admission(self.cache, LIMITS)
        self.running: list[Sequence] = []

    def run(self, sequence: Sequence, num_rows: int) -> Sequence:
        """Let `sequence` compute `num_rows` in steps of 64."""
        if not sequence.running:
            sequence.admit(self.cache, sequence.match(self.cache))
            self.running.append(sequence)
        for begin in range(0, num_rows, 64):
            rows = min(64, num_rows - begin)
            sequence.grow(self.cache, rows)
            sequence.commit(self.cache, rows)
        return sequence

    def end(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        sequence.release(self.cache)

    def admits(self, num_tokens: int, max_tokens: int = 1, token: int = 1) -> bool:
        return self.admission.admits(request(num_tokens, max_tokens, token), self.running)


def request(num_tokens: int, max_tokens: int = 1, token: int = 1) -> Sequence:
    """Return a sequence whose prompt says `token` over and over."""
    prompt = [token] * num_tokens
    return Sequence(Request(token, prompt, max_tokens, 0), array("i", prompt))


@pytest.mark.parametrize(
    ("num_tokens", "max_tokens", "most"),
    [(10, 1, 10), (10, 2, 11), (10, 0, 10), (990, 11, 1000), (990, 12, 1000), (1000, 1, 1000)],
)
def test_the_last_token_is_never_computed_and_the_context_ends(
    num_tokens: int, max_tokens: int, most: int
) -> None:
    asked = request(num_tokens, max_tokens).request
    assert Pages(1).admission.most_tokens(asked) == most


def test_alone_a_sequence_needs_its_own_pages_of_every_group() -> None:
    one = Pages(10, 4).admission
    assert one.suffices(640)
    assert not one.suffices(641)
    # A window of 70 and a step of 64 lie on three pages, and on one more where neither begins one.
    assert not Pages(10, 3).admission.suffices(640)
    assert Pages(10, 3).admission.suffices(192)


@pytest.mark.parametrize(
    ("num_tokens", "max_tokens", "pages"),
    [
        (128, 1, 2),  # nothing is computed behind the prompt
        (128, 2, 3),
        (128, 65, 3),
        (128, 66, 4),  # three for what comes next, and one to spare
        (128, 500, 4),
        (100, 29, 2),
        (100, 30, 3),
        (64, 0, 1),
        (63, 100, 2),  # the next token fits its page
    ],
)
def test_pages_for_what_is_known_and_the_next_token_and_one_to_spare(
    num_tokens: int, max_tokens: int, pages: int
) -> None:
    assert Pages(pages).admits(num_tokens, max_tokens)
    assert not Pages(pages - 1).admits(num_tokens, max_tokens)


@pytest.mark.parametrize(
    ("num_tokens", "max_tokens", "computed", "wanted"),
    [
        (128, 1, 64, 1),  # half of its prompt has no page yet
        (128, 1, 128, 0),
        (64, 100, 64, 1),  # it may come to need another
        (64, 20, 64, 1),
        (64, 1, 64, 0),
        (100, 29, 100, 0),
        (192, 200, 64, 3),  # two for its prompt, one to spare
    ],
)
def test_those_that_run_keep_what_they_need(
    num_tokens: int, max_tokens: int, computed: int, wanted: int
) -> None:
    held = computed // 64 + (computed % 64 > 0)
    for spare, expected in ((0, True), (-1, False)):
        one = Pages(held + wanted + 2 + spare)
        one.run(request(num_tokens, max_tokens), computed)
        assert one.admits(128, token=2) == expected


def test_a_prefix_in_use_is_shared_for_nothing() -> None:
    for num_pages, expected in ((4, True), (3, False)):
        one = Pages(num_pages)
        one.run(request(130), 130)
        assert one.admits(130) == expected
        assert not one.admits(130, token=2)


def test_a_cached_prefix_that_is_shared_is_no_page_to_take() -> None:
    one = Pages(4)
    one.end(one.run(request(130), 128))
    assert one.cache.pools[0].num_cached == 2
    other = one.run(request(64, token=3), 64)
    # Of the page that is free and two that are cached, the equal prompt uses those two.
    assert one.admits(130)
    assert one.admits(130, token=2), "it takes all three"
    assert one.admits(192)
    assert not one.admits(193)
    assert not one.admits(193, token=2)
    one.run(request(10, token=4), 10)
    assert not one.admits(130)
    assert not one.admits(130, token=2)
    one.end(other)
    assert one.admits(130)


def test_of_a_group_with_a_window_the_end_of_a_prefix_is_shared() -> None:
    """Of ten pages the two that the window looks back at; two more are for what comes."""
    one = Pages(20, 4)
    one.end(one.run(request(641), 640))
    pool = one.cache.pools[1]
    assert (pool.num_cached, pool.num_free) == (4, 0)
    assert one.admits(641)
    taken = one.run(request(10, token=2), 10)
    assert not one.admits(641)
    assert one.admits(10, token=3)
    one.end(taken)
