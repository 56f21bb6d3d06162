"""The process that an engine belongs to: after fork(2) its threads are in the parent alone."""

import os

from tonnage.core.errors import RequestError


class OwnProcess:
    """Remembers in which process it was made."""

    def __init__(self) -> None:
        """Remember this one."""
        self._number = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this process is still that one, not a fork of it."""
        return os.getpid() == self._number

    def require(self) -> None:
        """Raise RequestError in a fork."""
        if not self.is_here:
            raise RequestError(
                f"This engine was opened in process {self._number}, and its fork {os.getpid()} has "
                "none of its threads. Open an engine in each process, or let multiprocessing start "
                "processes by 'spawn'."
            )
