"""The end of a sentence about a name that nobody knows."""

from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about the unknown `name`: near names of `known`, or all."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(name.lower(), names, n=2, cutoff=0.5)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; the known ones are {', '.join(names)}." if names else "; none is known."
