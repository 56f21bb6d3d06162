"""A loaded model: the step loop, streams, prompts, generation, embedding, and what it takes now."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tonnage.engine.engine import Engine


def __getattr__(name: str) -> "type[Engine]":
    """Return `Engine` under the path of an earlier version, with a DeprecationWarning."""
    if name != "Engine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import warnings

    from tonnage.engine.engine import Engine

    warnings.warn("Engine is imported from tonnage now", DeprecationWarning, stacklevel=2)
    return Engine
