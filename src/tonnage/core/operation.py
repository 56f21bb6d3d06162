"""What every operation of a forward pass says of itself."""

from abc import ABC, abstractmethod
from dataclasses import fields
from typing import ClassVar

from tonnage.core.operands import Area


def named(*names: str | None) -> tuple[str, ...]:
    """Return the names that are there."""
    return tuple(name for name in names if name is not None)


class Operation(ABC):
    """What every step says of itself."""

    __slots__ = ()
    op: ClassVar[str]
    # Fields that say how many rows fit; results do not depend on them.
    capacity: ClassVar[frozenset[str]] = frozenset()

    @property
    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """Scratch buffers whose bytes it needs; what it changes in place is here and in writes."""

    @property
    @abstractmethod
    def writes(self) -> tuple[Area, ...]:
        """Scratch that it fills or changes."""

    @property
    def vectors(self) -> tuple[str, ...]:
        """Norm weights and biases that it reads, in that order."""
        return ()

    @property
    @abstractmethod
    def elements(self) -> int:
        """Elements of a row that it goes over; 0 for products and attention, which count apart."""

    @property
    def weights(self) -> tuple[str, ...]:
        """Matrices that it multiplies with, in the order in which a row reads them."""
        return ()

    @property
    def arithmetic(self) -> tuple[str, ...]:
        """All that changes results, as words: the operation and every field outside `capacity`."""
        named = (one.name for one in fields(self) if one.name not in self.capacity)  # type: ignore[arg-type]
        return (self.op, *(f"{name}={getattr(self, name)!r}" for name in named))
