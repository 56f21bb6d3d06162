"""A page of the prefix tree, and what a prompt agrees with."""

from collections.abc import Sequence

from tonnage.core.record import record
from tonnage.kvcache.pages import LOST

# A copy of a page takes about as long as computing two tokens, so fewer are not worth one.
MIN_COPY_TOKENS = 8
# Children that are looked through for a page that agrees in part.
MAX_LOOKED_AT = 32


class Node:
    """One page of tokens after its parent's; `pages` has an id or LOST for each group.

    users: sequences that lie on the node. stamp, rested_ns: when it was used last, by the count of
    uses and by the clock. key: what the store calls it, made when needed. snapshot: the place of
    the state after its last token (`states.py`), LOST where none is kept.
    """

    __slots__ = (
        "alive", "children", "key", "pages", "parent", "partials", "rested_ns", "salt", "snapshot",
        "stamp", "tokens", "users",
    )  # fmt: skip

    def __init__(self, parent: "Node | None", tokens: tuple[int, ...], pages: list[int]) -> None:
        """Hang a page below `parent`; it is not entered there yet."""
        self.parent = parent
        self.tokens = tokens
        self.pages = pages
        self.children: dict[tuple[int, ...], Node] = {}
        self.partials: dict[tuple[int, ...], Node] = {}
        self.salt = ""
        self.users = 0
        self.stamp = 0
        self.rested_ns = 0
        self.key: bytes | None = None
        self.snapshot = LOST
        self.alive = True


@record
class Match:
    """What of a prompt is cached: whole pages, and `num_tokens` with the part of one more."""

    nodes: tuple[Node, ...]
    partial: Node | None
    num_tokens: int

    @property
    def last(self) -> Node | None:
        """The node that it ends in."""
        return self.partial or (self.nodes[-1] if self.nodes else None)


def is_free_leaf(node: Node) -> bool:
    """Whether a node is unused and nothing hangs on it."""
    return node.users == 0 and not node.children and not node.partials


def latest(children: dict[tuple[int, ...], Node]) -> list[Node]:
    """Return the children that came last, not all of what may be thousands."""
    found = []
    for child in reversed(children.values()):
        found.append(child)
        if len(found) == MAX_LOOKED_AT:
            break
    return found


def best_snapshot(node: Node, tokens: Sequence[int]) -> Node | None:
    """Return the longest page below `node`, not a full one, with a snapshot and no other tokens."""
    found = [
        one for one in latest(node.partials)
        if one.snapshot != LOST and one.tokens == tuple(tokens[: len(one.tokens)])
    ]  # fmt: skip
    return max(found, key=lambda one: len(one.tokens), default=None)


def best_partial(node: Node, tokens: Sequence[int]) -> tuple[Node | None, int]:
    """Return the page below `node` that agrees longest with `tokens`, and in how many."""
    best, best_shared = None, MIN_COPY_TOKENS - 1
    for candidate in (*latest(node.partials), *latest(node.children)):
        shared = num_shared(candidate.tokens, tokens)
        if shared > best_shared:
            best, best_shared = candidate, shared
    return best, best_shared if best is not None else 0


def num_shared(left: Sequence[int], right: Sequence[int]) -> int:
    """Return how many leading tokens agree."""
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count
