"""From a conversation to the token ids of a prompt, with its tools, by the model's template."""

from array import array
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Unpack

from tonnage.core.errors import ChatTemplateError
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.prompts import PromptEnd
from tonnage.server.generation.conversation import Turns, without_tools
from tonnage.server.generation.engine import ServedEngine
from tonnage.server.generation.reasoning import ReasoningStart, reasoning_start

# In which a tag at the end of a prompt lies.
_END_TOKENS = 16


class ChatPrompts:
    """Encodes conversations for one model; one thread at a time."""

    def __init__(self, engine: ServedEngine) -> None:
        """Take the engine of the model."""
        self._engine = engine

    def encode(
        self,
        turns: Turns,
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
        **end: Unpack[PromptEnd],
    ) -> "array[int]":
        """Return the token ids of a conversation, with the tools where there are any.

        variables: more names for the template. end: what stands at the end. Raises
        ChatTemplateError, RequestError.
        """
        names = {key: value for key, value in (variables or {}).items() if key != "messages"}
        if not self._engine.tokenizer.knows_tools:
            knows_system = not tools or self._knows_system
            turns = without_tools(turns, tools, knows_system=knows_system)
        elif tools:
            names["tools"] = list(tools)
        # An array takes a tenth of a list; a thread makes one list at a time.
        return array("i", self._engine.encode_chat(turns, names, **end))

    @cached_property
    def _knows_system(self) -> bool:
        """Whether the chat template has a place for a system message."""
        turns = [{"role": role, "content": role} for role in ("system", "user")]
        encode = self._engine.encode_chat
        try:
            return len(encode(turns)) > len(encode(turns[1:]))
        except ChatTemplateError:
            return False

    def reasoning_start(self, prompt: Sequence[int], options: SamplingOptions) -> ReasoningStart:
        """Return whether a completion begins with what the model thinks; a bound one does not."""
        if options.constraint is not None:
            return "never"
        tokenizer = self._engine.tokenizer
        end = tokenizer.decode(prompt[-_END_TOKENS:], keep_control=True)
        return reasoning_start(tokenizer.chat_template, end)
