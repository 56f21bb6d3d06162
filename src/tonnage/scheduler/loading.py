"""What the disk tier has of a waiting sequence, loaded before it starts."""

from tonnage.kvcache.page_cache import PageCache
from tonnage.kvcache.prefix_load import PrefixLoad
from tonnage.scheduler.sequence import Sequence


def load_more(cache: PageCache, sequence: Sequence, most_pages: int | None) -> bool:
    """Load up to `most_pages`, None for all, of what the store has of a sequence that waits.

    Returns whether there is more. There must be room for all of the sequence's tokens.
    """
    tree, salt = cache.tree, sequence.request.salt
    if tree.store is None:
        return False
    if sequence.load is None:
        match = tree.match(sequence.tokens, salt)
        sequence.load = PrefixLoad(cache, sequence.tokens, salt, match)
    loads_on = sequence.load.advance(most_pages)
    if not loads_on:
        sequence.load = None
    return loads_on
