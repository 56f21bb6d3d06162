"""What a model thinks, split off from the text behind it.

Reasoning models write it between tags at the beginning of a completion: DeepSeek R1, Qwen 3, QwQ,
SmolLM 3. Some templates end a prompt with the first tag, so the completion begins inside.
"""

from collections.abc import Callable
from typing import Any, Literal

from tonnage.core.record import record

OPEN, CLOSE = "<think>", "</think>"

# never: the model does not think. may: a completion may begin with the tag. begun: the prompt ends
# with it.
ReasoningStart = Literal["never", "may", "begun"]


@record
class Thought:
    """A text that a model thinks, and does not say."""

    text: str


def reasoning_start(template: str | None, prompt_end: str) -> ReasoningStart:
    """Return how a completion begins; prompt_end: the last characters of what it follows."""
    if CLOSE not in (template or ""):
        return "never"
    return "begun" if prompt_end.rstrip().endswith(OPEN) else "may"


def template_variables(effort: str | None, verbosity: str | None = None) -> dict[str, Any]:
    """Return what templates read of a reasoning effort, or for longer completions.

    effort: `none` for no thought.
    """
    variables: dict[str, Any] = {} if verbosity is None else {"verbosity": verbosity}
    if effort is None:
        return variables
    wish = {"enable_thinking": False} if effort == "none" else {"reasoning_effort": effort}
    return variables | wish


class ReasoningParser:
    """Splits a growing completion into what is thought and what is said.

    White space around either is left out where a tag stands. Results do not depend on how the
    completion was cut into deltas.
    """

    def __init__(self, start: ReasoningStart) -> None:
        """start: what the completion begins with."""
        self._step: Callable[[], list[str | Thought]] = {
            "never": self._said, "may": self._undecided, "begun": self._reopened,
        }[start]  # fmt: skip
        self._held = ""

    @property
    def is_thinking(self) -> bool:
        """Whether what comes next is thought."""
        return self._step in (self._thought, self._opened, self._reopened)

    def push(self, text: str) -> list[str | Thought]:
        """Take more of the completion; return what is sure of it."""
        self._held += text
        parts: list[str | Thought] = []
        while True:
            step = self._step
            parts += step()
            if step == self._step:
                return parts

    def flush(self) -> list[str | Thought]:
        """Return what was held back; the completion has ended."""
        held, self._held = self._held, ""
        if not held:
            return []
        return [Thought(held)] if self.is_thinking and held.strip() else [held]

    def _undecided(self) -> list[str | Thought]:
        """Wait until it is known whether the completion begins with the tag."""
        begin = self._held.lstrip()
        if begin.startswith(OPEN):
            self._held = begin
            self._step = self._reopened
        elif not OPEN.startswith(begin):
            self._step = self._said
        return []

    def _reopened(self) -> list[str | Thought]:
        """Leave out the tag; a model may write it behind the template's."""
        begin = self._held.lstrip()
        if begin.startswith(OPEN):
            self._held, self._step = begin[len(OPEN) :], self._opened
        elif not OPEN.startswith(begin):
            self._step = self._opened
        return []

    def _opened(self) -> list[str | Thought]:
        """Leave out white space before the first word."""
        self._held = self._held.lstrip()
        if self._held:
            self._step = self._thought
        return []

    def _thought(self) -> list[str | Thought]:
        thought, tag, rest = self._held.partition(CLOSE)
        if tag:
            self._held, self._step = rest, self._behind
            return [Thought(thought.rstrip())] if thought.strip() else []
        # White space may stand before the tag, and the tag may be half there.
        kept = next(n for n in range(len(CLOSE) - 1, -1, -1) if self._held.endswith(CLOSE[:n]))
        sure = self._held[: len(self._held) - kept].rstrip()
        self._held = self._held[len(sure) :]
        return [Thought(sure)] if sure else []

    def _behind(self) -> list[str | Thought]:
        """Leave out white space behind the tag."""
        self._held = self._held.lstrip()
        if self._held:
            self._step = self._said
        return []

    def _said(self) -> list[str | Thought]:
        said, self._held = self._held, ""
        return [said] if said else []
