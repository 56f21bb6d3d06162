"""Logits for a caller: the row that a completion's first token would be sampled from."""

from array import array
from collections.abc import Callable

from tonnage.backends.protocol import SampleRow
from tonnage.core.plan import Plan
from tonnage.engine.generation import Completion, Generation
from tonnage.text.tokenizer import Tokenizer


class Reading(Completion):
    """A completion that keeps the logits that its last token is sampled from."""

    def __init__(
        self,
        generation: Generation,
        tokenizer: Tokenizer,
        plan: Plan,
        read: Callable[[int], bytes],
    ) -> None:
        """read: returns the float32 logits of a row of the step that has just run."""
        super().__init__(generation, tokenizer, plan)
        self._read = read
        self.logits = array("f")

    def row(self, index: int) -> SampleRow:
        """Return how the next token is sampled, and keep the logits."""
        self.logits = array("f", self._read(index))
        return super().row(index)
