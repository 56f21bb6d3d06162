"""The prefix tree alone: what is found again, what is kept, who goes first, and what is written."""

import random

import pytest

from tonnage.kvcache.pages import LOST, PageGroup, PagePool
from tonnage.kvcache.prefix_node import Node
from tonnage.kvcache.prefix_tree import PrefixTree
from tonnage.kvcache.states import StatePool

PAGE = 64
FULL = PageGroup(16, 1000)
WINDOW = PageGroup(16, 300, window_tokens=70)


def words(count: int, seed: int = 0) -> list[int]:
    """Return token ids; those of two seeds agree in nothing but by chance."""
    return random.Random(seed).choices(range(1 << 17), k=count)


class Store:
    """Keys as paths of tokens; notes what is put."""

    def __init__(self) -> None:
        self.put_pages: list[tuple[bytes, tuple[int, ...], list[int], int]] = []

    def root_key(self, salt: str) -> bytes:
        return f"<{salt}>".encode()

    def page_key(self, parent: bytes, tokens: tuple[int, ...]) -> bytes:
        return parent + f"{tokens[0]}-{tokens[-1]}/".encode()

    def has(self, key: bytes) -> bool:
        return False

    def has_state(self, key: bytes) -> bool:
        return False

    def put(
        self, key: bytes, tokens: tuple[int, ...], pages: list[int], snapshot: int = LOST
    ) -> None:
        self.put_pages.append((key, tokens, list(pages), snapshot))

    def get(
        self, key: bytes, tokens: tuple[int, ...], pages: list[int], snapshot: int = LOST
    ) -> bool:
        return False


class Forest:
    """A tree over pools, and sequences that compute tokens and end."""

    def __init__(
        self,
        *groups: PageGroup,
        max_bytes: int | None = None,
        store: Store | None = None,
        states: StatePool | None = None,
    ) -> None:
        self.groups = groups or (FULL,)
        self.pools = [PagePool(group.num_pages) for group in self.groups]
        self.tree = PrefixTree(self.groups, self.pools, max_bytes, store, states)

    def begin(self, tokens: list[int], salt: str = "") -> tuple[list[Node], Node | None]:
        """Compute `tokens`; return the nodes that the sequence lies on, and that of the rest."""
        node, path = self.tree.root(salt), []
        for begin in range(0, len(tokens) - PAGE + 1, PAGE):
            node = self.tree.attach(node, tuple(tokens[begin : begin + PAGE]), self._take())
            self.tree.enter(node)
            path.append(node)
            self._drop()
        rest, last = tuple(tokens[len(path) * PAGE :]), None
        if rest:
            last = self.tree.attach_partial(node, rest, self._take())
            self._drop()
        return path, last

    def keep(self, tokens: list[int], salt: str = "") -> None:
        """Let a sequence compute `tokens` and end."""
        path, last = self.begin(tokens, salt)
        for node in path:
            self.tree.leave(node)
        if last is not None:
            self.tree.rest(last)
        self.tree.drop_root(salt)
        self.tree.trim()
        self.tree.check()

    def found(self, tokens: list[int], salt: str = "") -> int:
        """Return how many tokens of a prompt are there."""
        return self.tree.match(tokens, salt).num_tokens

    def _take(self) -> list[int]:
        self._taken = [pool.take() for pool in self.pools]
        return list(self._taken)

    def _drop(self) -> None:
        for pool, page in zip(self.pools, self._taken, strict=True):
            pool.drop(page)
            pool.check()


class NoBytes:
    """States that nobody reads."""

    def copy_state(self, source: int, target: int) -> None:
        pass

    def read_state(self, place: int) -> bytes:
        return b""

    def write_state(self, place: int, data: bytes) -> None:
        pass


def test_the_longest_prefix_is_found_but_for_the_last_token() -> None:
    one, told = Forest(), words(200)
    one.keep(told)  # three pages and eight tokens
    assert one.found([*told, 5]) == 200
    assert one.found([*told[:192], 5]) == 192
    assert one.found(told[:193]) == 192
    assert one.found(told[:192]) == 191
    assert one.found([*told[:100], *words(100, 1)]) == 100
    assert one.found(words(200, 1)) == 0
    match = one.tree.match([*told, 5], "")
    assert [node.tokens for node in match.nodes] == [
        tuple(told[begin : begin + 64]) for begin in (0, 64, 128)
    ]
    assert match.partial is not None
    assert match.partial.tokens == tuple(told[192:])


def test_a_page_that_agrees_in_eight_tokens_is_copied_and_none_that_agrees_in_seven() -> None:
    one, told = Forest(), words(64)
    one.keep(told)
    assert one.found([*told[:8], *words(9, 1)]) == 8
    assert one.found([*told[:7], *words(9, 1)]) == 0
    assert one.found(told[:8]) == 0, "the last token is computed, whatever is there"
    assert one.found(told[:9]) == 8


def test_of_several_pages_the_one_that_agrees_longest_is_copied() -> None:
    one, told = Forest(), words(100)
    for seed, agreeing, other in ((1, 40, 20), (2, 50, 10), (3, 30, 30)):
        one.keep([*told[:agreeing], *words(other, seed)])
    assert one.found(told) == 50
    one.keep([*told[:55], *words(9, 4)])  # a whole page
    assert one.found(told) == 55


def test_salts_are_kept_apart() -> None:
    one, told = Forest(), words(130)
    one.keep(told, "a")
    assert one.found(told, "a") == 128
    assert one.found(told, "b") == one.found(told) == 0
    one.keep(told, "b")
    assert one.tree.num_nodes == 4
    assert len(one.tree.roots()) == 2
    one.tree.clear()
    assert (one.tree.num_nodes, one.tree.roots()) == (0, ())
    assert one.found(told, "a") == 0


def test_where_nothing_hangs_on_a_root_it_is_forgotten() -> None:
    one = Forest()
    for tokens in (words(0), words(7)):
        one.keep(tokens, "a")
        assert one.tree.roots() == ()
    for tokens in (words(8), words(64)):
        one.keep(tokens, "a")
        assert [root.salt for root in one.tree.roots()] == ["a"]
        one.tree.clear()


def test_leaves_go_first() -> None:
    one, told = Forest(), words(193)
    one.keep(told)
    for left in (128, 64, 0):
        assert one.tree.evict(0)
        assert one.pools[0].num_cached == left // PAGE
        assert one.tree.match(told, "").nodes == one.tree.match(told[: left + 1], "").nodes
        assert one.found(told) == left
        one.tree.check()
    assert not one.tree.evict(0)
    assert one.tree.num_evicted == 3
    assert (one.tree.num_nodes, one.tree.roots()) == (0, ())


def test_of_leaves_the_least_recently_used_goes_first() -> None:
    one, told = Forest(), [words(65, seed) for seed in range(4)]
    for tokens in told:
        one.keep(tokens[:64])
    one.keep(told[0][:64])  # used again
    for gone in (1, 2, 3, 0):
        assert one.found(told[gone]) == 64
        one.tree.evict(0)
        assert one.found(told[gone]) == 0


def test_a_parent_becomes_as_old_as_it_is_when_its_last_child_goes() -> None:
    """Used before the other prompt, it goes before that."""
    one, told, other = Forest(), words(129), words(65, 1)
    one.keep(told[:128])
    one.keep(other[:64])
    one.tree.evict(0)
    assert (one.found(told), one.found(other)) == (64, 64)
    one.tree.evict(0)
    assert (one.found(told), one.found(other)) == (0, 64)


def test_what_a_sequence_lies_on_is_not_evicted() -> None:
    one, told = Forest(), words(129)
    path, _ = one.begin(told[:128])
    assert not one.tree.evict(0)
    one.tree.leave(path[0])
    assert not one.tree.evict(0), "its child is in use"
    one.tree.leave(path[1])
    assert one.tree.evict(0)
    assert one.found(told) == 64


@pytest.mark.parametrize(("max_bytes", "left"), [(2000, 2), (2999, 2), (3000, 3), (0, 0)])
def test_no_more_than_the_cap_is_kept(max_bytes: int, left: int) -> None:
    one, told = Forest(max_bytes=max_bytes), words(320)
    one.keep(told)
    assert one.tree.cached_bytes == 1000 * left
    assert one.found([*told, 1]) == 64 * left


def test_a_cap_takes_pages_behind_windows_where_no_leaf_is_unused() -> None:
    one, told = Forest(FULL, WINDOW, max_bytes=2000), words(128)
    path, _ = one.begin(told)
    for node in path:
        one.tree.rest(node)
    assert one.tree.cached_bytes == 2 * 1300
    one.tree.trim()
    assert one.tree.cached_bytes == 2 * 1000
    assert [node.pages[1] for node in path] == [LOST, LOST]


def test_a_prefix_is_usable_where_every_window_before_it_is_whole() -> None:
    one, told = Forest(FULL, WINDOW), words(321)
    one.keep(told[:320])
    # A token at 320 looks back to 250, so pages 3 and 4 are wanted; the oldest pages go first.
    for gone in range(3):
        assert one.tree.evict(1)
        assert one.found(told) == 320
        assert one.pools[1].num_cached == 4 - gone
    assert one.found(told[:129]) == 0
    assert one.tree.evict(1)
    assert one.found(told) == 0
    assert one.pools[0].num_cached == 5, "nobody is short of the other group's pages"
    assert one.tree.evict(1)
    assert not one.tree.evict(1)
    # Computed again, the pages are kept where none were.
    one.keep(told[:320])
    assert one.found(told) == 320
    assert (one.pools[0].num_cached, one.pools[1].num_cached) == (5, 5)


def test_an_end_is_usable_where_every_window_before_it_is_whole() -> None:
    one, told = Forest(FULL, WINDOW), words(149)
    one.keep(told[:148])
    # A token at 148 looks back to 78, so the second page is wanted, and the first is not.
    assert one.tree.evict(1)
    assert one.found(told) == 148
    assert one.tree.evict(1)
    assert one.found(told) == 0


def test_a_window_that_is_whole_further_on_serves_a_shorter_prefix() -> None:
    one, told = Forest(FULL, WINDOW), words(193)
    path, _ = one.begin(told[:192])
    for node in reversed(path):
        one.tree.leave(node)
    assert one.tree.evict(1)  # of the last page, which was left first
    assert one.found(told) == 128
    assert one.tree.child(path[0], path[1].tokens) is path[1]
    assert one.tree.child(path[1], path[2].tokens) is None, "a group has lost it"
    assert one.tree.child(path[1], path[1].tokens) is None


def test_a_page_in_use_is_not_taken_from_behind_a_window() -> None:
    one, told = Forest(FULL, WINDOW), words(128)
    path, _ = one.begin(told)
    for node in path:
        one.pools[1].use(node.pages[1])
        one.tree.rest(node)
    assert not one.tree.evict(1)
    one.pools[1].drop(path[1].pages[1])
    one.tree.rest(path[1])
    assert one.tree.evict(1)
    assert [node.pages[1] == LOST for node in path] == [False, True]
    assert not one.tree.evict(1)


def test_pages_behind_windows_are_found_past_those_that_are_gone() -> None:
    one = Forest(FULL, WINDOW)
    for seed in range(3):
        one.keep(words(64, seed))
    one.keep(words(64, 2))
    assert one.tree.evict(0)  # the whole page of the first, its window's too
    assert (one.pools[0].num_cached, one.pools[1].num_cached) == (2, 2)
    for left in (1, 0):
        assert one.tree.evict(1)
        assert one.pools[1].num_cached == left
    assert not one.tree.evict(1)
    assert one.pools[0].num_cached == 2


def test_a_node_without_any_page_is_no_node() -> None:
    one = Forest(WINDOW)
    one.keep(words(128))
    assert one.tree.evict(0)
    assert one.tree.num_nodes == 2, "the first page leads to the second"
    assert one.tree.evict(0)
    assert (one.tree.num_nodes, one.tree.roots()) == (0, ())


def test_equal_tokens_are_one_page() -> None:
    one, told = Forest(), words(128)
    one.keep(told)
    pages = [node.pages for node in one.tree.match([*told, 1], "").nodes]
    one.keep(told)
    assert [node.pages for node in one.tree.match([*told, 1], "").nodes] == pages
    assert (one.tree.num_nodes, one.pools[0].num_cached) == (2, 2)


def test_an_end_that_others_say_too_is_one_node() -> None:
    told = words(64)
    for counts in ((20, 15), (15, 20), (20, 20), (20, 64), (64, 20), (8, 9, 10, 64)):
        one = Forest()
        for count in counts:
            one.keep(told[:count])
        assert one.tree.num_nodes == one.pools[0].num_cached == 1, counts
        assert one.found([*told[: max(counts)], 1]) == max(counts)
    one = Forest()
    one.keep(told[:20])
    one.keep([*told[:19], told[19] + 1])
    assert one.tree.num_nodes == 2


def test_what_is_lost_is_no_end() -> None:
    one = Forest()
    assert one.tree.attach_partial(one.tree.root(""), tuple(words(20)), [LOST]) is None
    assert one.tree.num_nodes == 0


def test_whole_pages_are_written_before_they_are_evicted() -> None:
    store = Store()
    one, told = Forest(store=store), words(140)
    one.keep(told, "s")
    pages = [list(node.pages) for node in one.tree.match([*told[:128], 1], "s").nodes]
    keys = [b"<s>"]
    for begin in (0, 64):
        keys.append(store.page_key(keys[-1], tuple(told[begin : begin + 64])))
    assert one.tree.evict(0)
    assert store.put_pages == [], "the end of 12 tokens is no page of the store"
    assert one.tree.evict(0)
    assert store.put_pages == [(keys[2], tuple(told[64:128]), pages[1], LOST)]
    assert one.tree.evict(0)
    assert store.put_pages[1:] == [(keys[1], tuple(told[:64]), pages[0], LOST)]


def test_pages_behind_a_window_are_written_before_they_are_evicted() -> None:
    store = Store()
    one, told = Forest(FULL, WINDOW, store=store), words(64)
    one.keep(told)
    (node,) = one.tree.match([*told, 1], "").nodes
    whole = list(node.pages)
    one.tree.evict(1)
    assert [pages for _, _, pages, _ in store.put_pages] == [whole]
    one.tree.evict(0)
    assert [pages for _, _, pages, _ in store.put_pages] == [whole, [whole[0], LOST]]


def test_a_flush_writes_every_whole_page_once() -> None:
    store = Store()
    one = Forest(store=store)
    one.keep(words(140))
    one.keep(words(64, 1), "b")
    one.tree.flush()
    assert sorted(tokens for _, tokens, _, _ in store.put_pages) == sorted(
        tuple(tokens) for tokens in (words(140)[:64], words(140)[64:128], words(64, 1))
    )
    assert one.tree.num_nodes == 4, "it evicts nothing"


def test_with_states_a_prefix_ends_at_a_snapshot_with_whole_windows() -> None:
    states = StatePool(1, 4, NoBytes())
    one, told = Forest(FULL, WINDOW, states=states), words(350)
    path, end = one.begin(told[:340])
    assert end is not None
    for node in (path[1], path[4], end):
        states.keep(node, 0)
    for node in path:
        one.tree.leave(node)
    one.tree.rest(end)
    assert one.found(told) == 340
    assert one.found([*told[:339], *words(9, 1)]) == 320, "a state cannot be cut"
    assert one.found(told[:320]) == 128
    assert one.found(told[:128]) == 0
    # 340 looks back to 270 and 320 to 250: with the first four pages gone only the end is left.
    for found in (320, 320, 320, 0):
        assert one.tree.evict(1)
        assert one.found(told[:330]) == found
    assert one.found(told) == 340
    assert one.tree.evict(1)
    assert one.found(told) == 0


def test_a_page_takes_its_snapshot_along() -> None:
    store, states = Store(), StatePool(1, 2, NoBytes())
    one = Forest(store=store, states=states)
    path, _ = one.begin(words(128))
    states.keep(path[1], 0)
    place = path[1].snapshot
    for node in path:
        one.tree.leave(node)
    for _ in range(2):
        assert one.tree.evict(0)
        states.check()
    assert [snapshot for *_, snapshot in store.put_pages] == [place, LOST]
    assert [states.take() is None for _ in range(3)] == [False, False, True]


def test_with_states_every_end_is_kept_and_found_again() -> None:
    states = StatePool(1, 4, NoBytes())
    one, told = Forest(states=states), words(20)
    root = one.tree.root("")
    for count in (3, 20, 3):
        _, end = one.begin(told[:count])
        assert end is root.partials[tuple(told[:count])]
        states.keep(end, 0)
    assert one.tree.num_nodes == 2
    assert (one.found(told[:4]), one.found([*told, 1])) == (3, 20)


def test_observers_see_when_a_page_was_used_last() -> None:
    one, told = Forest(), words(64)
    one.tree.now_ns = 7
    one.keep(told)
    (node,) = one.tree.match([*told, 1], "").nodes
    assert node.rested_ns == 7
    one.tree.now_ns = 9
    one.keep(told)
    assert node.rested_ns == 9


def test_what_is_used_over_and_over_is_not_noted_over_and_over() -> None:
    one, told = Forest(FULL, WINDOW), words(64)
    for _ in range(1000):
        one.keep(told)
    assert max(len(one.tree._leaves), *map(len, one.tree._windows)) < 100
    assert one.tree.evict(1)
    assert not one.tree.evict(1)
    assert one.tree.evict(0)
    assert not one.tree.evict(0)
    assert one.found([*told, 1]) == 0
