"""Chat templates: messages to a prompt, through a sandbox with bounds on time, steps and sizes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tonnage.core.errors import ChatTemplateError
from tonnage.text.jinja_import import import_without_openssl
from tonnage.text.template_bounds import MAX_OUTPUT_CHARS

if TYPE_CHECKING:
    from datetime import datetime

MAX_TEMPLATE_CHARS = 1 << 17


class ChatTemplate:
    """A compiled chat template (Jinja, as Hugging Face's `apply_chat_template` runs it).

    The template comes with a model and is not trusted: it runs without access to anything but its
    variables, and is stopped after `time_limit_s` or when a value outgrows `MAX_OUTPUT_CHARS`.
    """

    def __init__(self, source: str | None, *, time_limit_s: float = 2.0) -> None:
        """Compile; raises ChatTemplateError for no template, or a broken or hostile one."""
        if source is None:
            raise ChatTemplateError(
                "The model has no chat template, so messages cannot be turned into a prompt; "
                "give plain text instead (--raw)."
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

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        bos_token: str = "",
        eos_token: str = "",
        now: "datetime | None" = None,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the prompt of `messages`, each a mapping with "role" and "content".

        now: what `strftime_now` formats; the clock where None. variables: more names for the
        template (tools, ...). The prompt holds its own beginning token, so it is encoded with
        add_special=False and parse_special=True. Raises ChatTemplateError when the template refuses
        the messages (its own words are in the message), fails, or exceeds its bounds.
        """
        from datetime import datetime

        _check_messages(messages)
        return self._sandbox.render(
            self._template,
            {
                "tools": None,
                "documents": None,
                **(variables or {}),
                "messages": [dict(message) for message in messages],
                "add_generation_prompt": add_generation_prompt,
                "bos_token": bos_token,
                "eos_token": eos_token,
                "strftime_now": (now or datetime.now()).strftime,
            },
        )


def _check_messages(messages: Sequence[Mapping[str, Any]]) -> None:
    if not messages:
        raise ChatTemplateError("A chat needs at least one message.")
    total = 0
    for i, message in enumerate(messages):
        for name in ("role", "content"):
            if name not in message:
                raise ChatTemplateError(f"Message {i} has no '{name}'.")
        if not isinstance(message["role"], str):
            raise ChatTemplateError(f"The role of message {i} is not a text.")
        total += len(message["content"]) if isinstance(message["content"], str) else 0
    if total > MAX_OUTPUT_CHARS // 2:
        raise ChatTemplateError(
            f"The messages have {total} characters; at most {MAX_OUTPUT_CHARS // 2} "
            "can be rendered."
        )
