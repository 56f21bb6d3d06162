"""Patterns with look-around as plain ones."""

import re


def plain_pattern(pattern: str) -> str | None:
    """Return a pattern of the same meaning without look-around, None where there is none."""
    return None if re.search(r"\(\?<?[=!]|\\[bB]", pattern) else pattern
