"""Many answers at once: the loop of steps, and what callers hold while it runs."""

from tonnage.serving.stream import AnswerStream, Piece

__all__ = ["AnswerStream", "Piece"]
