"""What a disk tier of the prefix cache has done."""

from dataclasses import dataclass


@dataclass(slots=True)
class PageCounts:
    """What a page store has done since it was opened; damaged files count as misses too."""

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    written: int = 0
    not_written: int = 0
    evicted: int = 0
