"""From arguments in Python to what the server makes of the same words over HTTP."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import msgspec

from tonnage.chat.completion import ChatCompletion
from tonnage.core.errors import BudgetError, RequestError
from tonnage.core.footprint import structured_output_bytes
from tonnage.core.options import current
from tonnage.core.plan import Item
from tonnage.core.sampling import SamplingOptions, SamplingOverrides
from tonnage.core.units import format_bytes
from tonnage.engine.engine import Engine
from tonnage.engine.prompts import Message, require_context
from tonnage.server.generation.call_formats import control_marks
from tonnage.server.generation.chat_prompts import ChatPrompts
from tonnage.server.generation.conversation import turns_of
from tonnage.server.generation.grammars import Form
from tonnage.server.generation.reasoning import template_variables
from tonnage.server.generation.structured import MakeConstraint, StructuredOutput
from tonnage.server.generation.tool_use import ToolUse
from tonnage.server.http.decoding import decode
from tonnage.server.http.failures import HttpError
from tonnage.server.openai.chat import tools_of
from tonnage.server.openai.forms import form_of
from tonnage.server.openai.schema import ChatRequest

_TABLES = "structured output"


class Chats:
    """Conversations with one engine."""

    def __init__(self, engine: Engine, budget_bytes: int) -> None:
        """budget_bytes: of the whole process."""
        self._engine = engine
        self._budget_bytes = budget_bytes
        self._prompts = ChatPrompts(engine)

    def completion(
        self,
        messages: Sequence[Message],
        stated: Mapping[str, Any],
        options: SamplingOptions | None,
        overrides: SamplingOverrides,
    ) -> ChatCompletion:
        """Return the response to `messages`; arguments and errors as of `Engine.chat`."""
        try:
            request = _request(messages, stated)
            use = tools_of(request)
            form = form_of(request, request.response_format)
            variables = template_variables(request.reasoning_effort)
            variables |= request.chat_template_kwargs or {}
            tokens = self._prompts.encode(turns_of(request.messages), use.tools, variables)
            require_context(len(tokens), self._engine.plan.context_tokens)
            constraint = self._of_request(use, form)
        except HttpError as error:
            raise RequestError(error.sentence) from None
        chosen = replace(options or SamplingOptions(), **current(SamplingOptions, overrides))
        if constraint is not None:
            chosen = replace(chosen, constraint=constraint)
        if use.callable:
            chosen = replace(chosen, shown=control_marks(self._engine.tokenizer))
        return ChatCompletion(
            lambda: self._engine.generate(tokens, chosen),
            lambda: self._engine.stream(tokens, chosen),
            use.rules(self._engine.tokenizer, is_bound=form is not None),
            self._prompts.reasoning_start(tokens, chosen),
        )

    def constraint(self, format_: Mapping[str, Any]) -> MakeConstraint | None:
        """Return what binds a text to a `response_format`. Raises RequestError, BudgetError."""
        try:
            stated = {"response_format": format_}
            request = _request([{"role": "user", "content": ""}], stated)
            return self._of_request(ToolUse(), form_of(request, request.response_format))
        except HttpError as error:
            raise RequestError(error.sentence) from None

    def _of_request(self, use: ToolUse, form: Form | None) -> MakeConstraint | None:
        if form is None and not use.is_required:
            return None
        return self._structured.of_request(use, form)

    @cached_property
    def _structured(self) -> StructuredOutput:
        """What binds completions; its tables become an item of the plan unless they are one.

        Raises BudgetError where the plan leaves no room for them.
        """
        if find_spec("llguidance") is None:
            raise RequestError(
                "Structured output needs llguidance; install it with pip install 'tonnage[serve]'."
            )
        plan = self._engine.plan
        if all(item.name != _TABLES for item in plan.items):
            needed = structured_output_bytes(plan.vocab_size)
            whole = plan.total_bytes + needed
            if whole > self._budget_bytes:
                raise BudgetError(
                    f"The tables of structured output take {format_bytes(needed)}, and the plan "
                    f"leaves {format_bytes(max(0, self._budget_bytes - plan.total_bytes))} of the "
                    f"budget; open the model with memory={format_bytes(whole)!r}, or with a "
                    "smaller context."
                )
            self._engine.plan = replace(plan, items=(*plan.items, Item(_TABLES, "host", needed)))
        return StructuredOutput(self._engine, enabled=True)


def _request(messages: Sequence[Message], stated: Mapping[str, Any]) -> ChatRequest:
    """Return what the server reads of the same request. Raises HttpError, RequestError."""
    if isinstance(messages, str | bytes | Mapping):
        raise RequestError(
            f"messages is of type {type(messages).__name__}; give a list of messages such as "
            "[{'role': 'user', 'content': 'Hello'}], or use `generate` for a text."
        )
    fields = {name: value for name, value in stated.items() if value is not None}
    try:
        body = msgspec.json.encode({"model": "-", "messages": list(messages), **fields})
    except (TypeError, ValueError) as error:
        raise RequestError(f"The request is not what JSON can say: {error}.") from None
    return decode(ChatRequest, body)
