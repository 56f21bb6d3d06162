"""A scheduler as an observer may see it: counts and shapes, no token and no name of a tenant."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import nlargest
from itertools import islice
from operator import attrgetter
from typing import Any, Literal

from tonnage.core.record import record
from tonnage.kvcache.pages import LOST
from tonnage.kvcache.prefix_node import Node
from tonnage.kvcache.prefix_tree import PrefixTree
from tonnage.scheduler.scheduler import Scheduler
from tonnage.scheduler.sequence import Sequence

State = Literal["reading", "writing", "paused", "waiting", "preempted"]

MOST_SEQUENCES = 64
MOST_NODES = 200
# Long prefixes are chains of pages that are shown as one; looking at more takes too long.
_MOST_LOOKED_AT = 2000


@record
class SequenceSnapshot:
    """A request; id: a running number. shared_pages: those that one before it in the list has too.

    State `reading` is prefill, `writing` is decode, `paused` that its client does not read at the
    moment, `preempted` that it waits for the second time.
    """

    id: int
    state: State
    num_tokens: int
    num_pages: int
    shared_pages: int


@dataclass(slots=True)
class Branch:
    """Pages of a prefix up to where others part from it; idle_ns: 0 while a request uses it."""

    num_tokens: int
    num_pages: int
    idle_ns: int
    children: "list[Branch]" = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the branch and those below it as JSON values."""
        return {
            "tokens": self.num_tokens,
            "pages": self.num_pages,
            "idle_s": self.idle_ns / 1e9,
            "children": [child.to_dict() for child in self.children],
        }


@record
class SchedulerSnapshot:
    """What is there now. Pages are those of the first group that keeps all positions.

    num_hidden: pages of prefixes that are not among `branches`. events: age in nanoseconds and
    what was done when pages were short, the oldest first. levels: how often each pressure level was
    used.
    """

    num_waiting: int
    num_running: int
    page_bytes: int
    num_total: int
    num_free: int
    num_cached: int
    num_used: int
    sequences: tuple[SequenceSnapshot, ...]
    branches: tuple[Branch, ...]
    num_hidden: int
    events: tuple[tuple[int, str], ...]
    levels: dict[str, int]


def snapshot_of(scheduler: Scheduler, now_ns: int) -> SchedulerSnapshot:
    """Return what `scheduler` is doing; for the thread that drives it, between two steps."""
    cache = scheduler.cache
    windows = [spec.window_tokens for spec in cache.groups]
    group = windows.index(0) if 0 in windows else 0
    pool = cache.pools[group]
    branches, num_shown = _branches(cache.tree, group, now_ns)
    events = scheduler.events.last()
    return SchedulerSnapshot(
        num_waiting=scheduler.num_waiting,
        num_running=scheduler.num_running,
        page_bytes=cache.groups[group].page_bytes,
        num_total=pool.num_total,
        num_free=pool.num_free,
        num_cached=pool.num_cached,
        num_used=pool.num_used,
        sequences=tuple(_sequences(scheduler.sequences(), group)),
        branches=tuple(branches),
        num_hidden=cache.tree.num_nodes - num_shown,
        events=tuple((max(0, now_ns - at_ns), text) for at_ns, text in events),
        levels=scheduler.pressure.counts,
    )


def _sequences(all_: Iterable[Sequence], group: int) -> Iterable[SequenceSnapshot]:
    seen: set[int] = set()
    for sequence in islice(all_, MOST_SEQUENCES):
        table = sequence.tables[group] if sequence.tables else []
        held = {page for page in table if page != LOST}
        num_shared = len(held & seen)
        seen |= held
        yield SequenceSnapshot(
            sequence.request.id, _state(sequence), len(sequence.tokens), len(held), num_shared
        )


def _state(sequence: Sequence) -> State:
    if not sequence.running:
        return "preempted" if sequence.num_preempted else "waiting"
    if sequence.stalled:
        return "paused"
    return "writing" if sequence.is_decoding else "reading"


def _branches(tree: PrefixTree, group: int, now_ns: int) -> tuple[list[Branch], int]:
    """Return the trees of all salts, the latest used first, and how many pages they show."""
    top: list[Branch] = []
    num_seen = num_branches = 0
    todo: deque[tuple[list[Branch], list[Node]]] = deque([(top, _latest(tree.roots()))])
    while todo:
        place, nodes = todo.popleft()
        for first in nodes:
            if num_branches == MOST_NODES or num_seen >= _MOST_LOOKED_AT:
                return top, num_seen
            chain = _chain(first, _MOST_LOOKED_AT - num_seen)
            num_seen += len(chain)
            num_branches += 1
            branch = _branch(chain, group, now_ns)
            place.append(branch)
            todo.append((branch.children, _latest([chain[-1]])))
    return top, num_seen


def _latest(parents: Iterable[Node]) -> list[Node]:
    """Return the pages right below `parents`, the latest used first."""
    below = (
        node for one in parents for kind in (one.children, one.partials) for node in kind.values()
    )
    return nlargest(MOST_NODES, below, key=attrgetter("stamp"))


def _chain(node: Node, most: int) -> list[Node]:
    """Return `node` and what follows it alone, up to where the prefix branches or ends."""
    chain = [node]
    while len(chain) < most and len(node.children) + len(node.partials) == 1:
        (node,) = (*node.children.values(), *node.partials.values())
        chain.append(node)
    return chain


def _branch(chain: list[Node], group: int, now_ns: int) -> Branch:
    in_use = any(node.users for node in chain)
    rested_ns = max(node.rested_ns for node in chain)
    return Branch(
        num_tokens=sum(len(node.tokens) for node in chain),
        num_pages=sum(node.pages[group] != LOST for node in chain),
        idle_ns=0 if in_use else max(0, now_ns - rested_ns),
    )
