"""What a pull reports while it works. How it is shown is the caller's affair."""

from typing import Protocol


class Progress(Protocol):
    """Who observes a pull. Positions are bytes of the finished file."""

    def start(self, title: str, total_bytes: int, done_bytes: int) -> None:
        """Begin with `done_bytes` of `total_bytes` already here."""

    def stage(self, text: str) -> None:
        """Name what happens now."""

    def at(self, position_bytes: int) -> None:
        """Move to `position_bytes`, which may lie before the last one."""

    def close(self) -> None:
        """End, finished or not. May be called twice."""


class SilentProgress:
    """Shows nothing."""

    def start(self, title: str, total_bytes: int, done_bytes: int) -> None:
        """Ignore the beginning."""

    def stage(self, text: str) -> None:
        """Ignore the stage."""

    def at(self, position_bytes: int) -> None:
        """Ignore the position."""

    def close(self) -> None:
        """Do nothing."""
