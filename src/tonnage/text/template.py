"""Chat templates: messages to a prompt, through a sandbox with bounds on time, steps and sizes."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tonnage.core.errors import ChatTemplateError, NoChatTemplateError
from tonnage.text.continuation import cut_at_mark, marked
from tonnage.text.jinja_import import import_without_openssl
from tonnage.text.template_bounds import MAX_OUTPUT_CHARS, TIME_LIMIT_S

if TYPE_CHECKING:
    from datetime import datetime

MAX_TEMPLATE_CHARS = 1 << 17
# Names of what an earlier turn was reasoned with, the usual one first; gpt-oss reads `thinking`.
_REASONING = ("reasoning_content", "thinking", "reasoning")


class ChatTemplate:
    """A compiled chat template (Jinja, as Hugging Face's `apply_chat_template` runs it).

    The template comes with a model and is not trusted: it runs without access to anything but its
    variables, and is stopped after `time_limit_s`, or when a value outgrows `MAX_OUTPUT_CHARS`.
    """

    def __init__(self, source: str | None, *, time_limit_s: float = TIME_LIMIT_S) -> None:
        """Compile; raises ChatTemplateError for no template, or a broken or hostile one."""
        if source is None:
            raise NoChatTemplateError(
                "This is a base model: it has no chat template, so it takes no messages and goes "
                "on with a text instead. Give it plain text as a prompt."
            )
        if len(source) > MAX_TEMPLATE_CHARS:
            raise ChatTemplateError(
                f"The chat template has {len(source)} characters; at most {MAX_TEMPLATE_CHARS} "
                "are accepted."
            )
        import_without_openssl()
        from tonnage.text.sandbox import Sandbox

        self._sandbox = Sandbox(time_limit_s=time_limit_s)
        self._template = self._sandbox.compile(source)
        # DeepSeek's distinguish a call from an answer by it; others write it as a text.
        self._knows_none = self._sandbox.tests_for_none(source, "content")

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        bos_token: str = "",
        eos_token: str = "",
        now: "datetime | None" = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the prompt of `messages`, each a mapping with "role" and "content".

        continue_final_message: the prompt ends where the text of the last message does, so that the
        completion goes on with it; no generation prompt is added. now: what `strftime_now` formats;
        the clock where None. variables: more names for the template (tools, pad_token, ...). The
        prompt holds its own beginning token, so it is encoded with add_special=False and
        parse_special=True. Raises ChatTemplateError when the template refuses the messages (its own
        words are in the message), fails, exceeds its bounds, or leaves out what is to be continued.
        """
        from datetime import datetime

        _check_messages(messages)
        turns = [self._turn(message) for message in messages]
        names = {
            "tools": None,
            "documents": None,
            "bos_token": bos_token,
            "eos_token": eos_token,
            **(variables or {}),
            "messages": marked(turns) if continue_final_message else turns,
            "add_generation_prompt": add_generation_prompt and not continue_final_message,
            "strftime_now": (now or datetime.now()).strftime,
        }
        prompt = self._sandbox.render(self._template, names)
        return cut_at_mark(prompt, turns[-1]) if continue_final_message else prompt

    def _turn(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return a message without fields that are None, which templates write as a text.

        It has a content, and its reasoning every name that templates read, whichever it came by.
        """
        turn = {name: value for name, value in message.items() if value is not None}
        if self._knows_none and turn.get("tool_calls") and not turn.get("content"):
            turn["content"] = None
        turn.setdefault("content", "")
        if isinstance(calls := turn.get("tool_calls"), list | tuple):
            turn["tool_calls"] = [_call(call) for call in calls]
        reasoning = next((turn[name] for name in _REASONING if name in turn), None)
        if reasoning is not None:
            turn = {"thinking": reasoning, **turn, "reasoning_content": reasoning}
        return turn


def _call(call: Any) -> Any:
    """Return a call whose arguments are an object, where OpenAI's form writes that as a text."""
    function = call.get("function") if isinstance(call, Mapping) else None
    arguments = function.get("arguments") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(arguments, str):
        return call
    try:
        parsed = json.loads(arguments)
    except (ValueError, RecursionError):
        return call
    return (
        {**call, "function": {**function, "arguments": parsed}}
        if isinstance(parsed, dict)
        else call
    )


def _check_messages(messages: Sequence[Mapping[str, Any]]) -> None:
    if not messages:
        raise ChatTemplateError("A chat needs at least one message.")
    total = 0
    for i, message in enumerate(messages):
        for name in ("role", "content"):
            if name not in message and not (name == "content" and message.get("tool_calls")):
                raise ChatTemplateError(f"Message {i} has no '{name}'.")
        if not isinstance(message["role"], str):
            raise ChatTemplateError(f"The role of message {i} is not a text.")
        content = message.get("content")
        total += len(content) if isinstance(content, str) else 0
    if total > MAX_OUTPUT_CHARS // 2:
        raise ChatTemplateError(
            f"The messages have {total} characters; at most {MAX_OUTPUT_CHARS // 2} "
            "can be rendered."
        )
