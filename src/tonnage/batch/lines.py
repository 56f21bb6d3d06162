"""Lines of `tonnage batch`: from JSON to a checked request, and from a completion to JSON.

Two forms come in, and each goes out in its own: lines of OpenAI's Batch API (custom_id, url, body),
and plain ones, `{"prompt": "..."}` or `{"messages": [...]}` beside the fields of SamplingOptions.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

from tonnage.core.errors import RequestError, TonnageError
from tonnage.core.options import described
from tonnage.core.record import record
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.generation import Generation, TokenLogprob

MAX_LINE_BYTES = 16 << 20
_CHAT_URL, _COMPLETION_URL = "/v1/chat/completions", "/v1/completions"
_OPTIONS = described(SamplingOptions)
_NUMBERS = tuple(one.name for one in _OPTIONS if one.hint == "float")
# logprobs is a switch in one of the forms.
_INTEGERS = tuple(
    one.name for one in _OPTIONS if one.hint in ("int", "int | None") and one.name != "logprobs"
)
# What says nothing about the completion, and what has one value that can be served.
_IGNORED = frozenset({"model", "user", "metadata", "store", "service_tier"})
_FIXED: Mapping[str, object] = {"n": 1, "best_of": 1, "stream": False, "echo": False}


@record
class BatchRequest:
    """A line that can be completed.

    custom_id: None when a plain line has none. is_openai: the form. is_chat: messages, not a
    prompt. raw: the prompt goes to the model without a chat template.
    """

    custom_id: str | None
    is_openai: bool
    is_chat: bool
    prompt: str | list[int] | list[dict[str, Any]]
    raw: bool
    options: SamplingOptions


def settings_id(settings: str) -> str:
    """Return a short name of what all results depend on: model, formats, defaults."""
    return sha256(settings.encode()).hexdigest()


def line_id(settings: str, line: bytes) -> str:
    """Return what names the result of `line` under `settings` (model, defaults)."""
    digest = sha256(settings.encode())
    digest.update(b"\n" + line.strip())
    return digest.hexdigest()[:24]


def parse_line(line: bytes, defaults: SamplingOptions, *, raw: bool) -> BatchRequest:
    """Return the request of a line. defaults: for what it leaves out; raw: of plain prompts.

    Raises RequestError for everything that is not understood; of the fields only those that do not
    change a completion are dropped (model, user and the like).
    """
    if len(line) > MAX_LINE_BYTES:
        raise RequestError(f"The line has more than {MAX_LINE_BYTES:,} bytes.")
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The line is not valid JSON ({error}).") from None
    if not isinstance(fields, dict):
        raise RequestError("The line is no JSON object.")
    custom_id = _optional(fields, "custom_id", str)
    if "body" not in fields:
        return _request(fields, custom_id, defaults, url=None, raw=raw)
    body, url = fields.pop("body"), _optional(fields, "url", str)
    method = fields.pop("method", "POST")
    if not isinstance(body, dict) or method != "POST" or fields:
        raise RequestError("A line of the Batch API has custom_id, method POST, url and body.")
    url = url or (_CHAT_URL if "messages" in body else _COMPLETION_URL)
    if url not in (_CHAT_URL, _COMPLETION_URL):
        raise RequestError(f"url is {url[:100]!r}; use {_CHAT_URL} or {_COMPLETION_URL}.")
    return _request(body, custom_id, defaults, url=url, raw=True)


def _request(
    fields: dict[str, Any],
    custom_id: str | None,
    defaults: SamplingOptions,
    *,
    url: str | None,
    raw: bool,
) -> BatchRequest:
    """Return the request of `fields`, all of which are used up. url: None for a plain line."""
    prompt, is_chat = _prompt(fields)
    if url is not None and is_chat != (url == _CHAT_URL):
        raise RequestError(f"{url} takes {'messages' if url == _CHAT_URL else 'prompt'}.")
    for name in _IGNORED:
        fields.pop(name, None)
    for name, only in _FIXED.items():
        if fields.pop(name, None) not in (only, None):
            raise RequestError(f"{name} can only be {json.dumps(only)} in a batch.")
    options = replace(defaults, **_options(fields, counts_logprobs=not (url and is_chat)))
    if fields:
        raise RequestError(f"The fields {', '.join(sorted(fields))[:200]} are not implemented.")
    return BatchRequest(custom_id, url is not None, is_chat, prompt, raw and not is_chat, options)


def _prompt(fields: dict[str, Any]) -> tuple[Any, bool]:
    """Take prompt or messages; return it, and whether it was messages."""
    prompt, messages = fields.pop("prompt", None), fields.pop("messages", None)
    if (prompt is None) == (messages is None):
        raise RequestError("A line needs either prompt or messages.")
    if messages is not None:
        if not isinstance(messages, list) or not all(_is_message(one) for one in messages):
            raise RequestError("messages is no list of objects with role and content.")
        return messages, True
    is_ids = isinstance(prompt, list) and all(type(one) is int for one in prompt)
    if not isinstance(prompt, str) and not is_ids:
        raise RequestError("prompt is neither a text nor a list of token ids.")
    return prompt, False


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and "content" in value


def _options(fields: dict[str, Any], *, counts_logprobs: bool) -> dict[str, Any]:
    """Take the fields of SamplingOptions. counts_logprobs: logprobs is a number, not a switch."""
    found: dict[str, Any] = {}
    for name in _NUMBERS:
        found[name] = _optional(fields, name, int, float)
    for name in _INTEGERS:
        found[name] = _optional(fields, name, int)
    at_most = _optional(fields, "max_completion_tokens", int)
    found["max_tokens"] = at_most if at_most is not None else found["max_tokens"]
    found["ignore_eos"] = _optional(fields, "ignore_eos", bool)
    found["stop"] = _stop(_optional(fields, "stop", str, list))
    found["logit_bias"] = _logit_bias(_optional(fields, "logit_bias", dict))
    if counts_logprobs:
        found["logprobs"] = _optional(fields, "logprobs", int)
    else:
        top = _optional(fields, "top_logprobs", int)
        found["logprobs"] = (top or 0) if _optional(fields, "logprobs", bool) else None
    return {name: value for name, value in found.items() if value is not None}


def _optional(fields: dict[str, Any], name: str, *kinds: type) -> Any:
    """Take a field of one of `kinds`, or None."""
    value = fields.pop(name, None)
    if value is not None and type(value) not in kinds:
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise RequestError(f"{name} is {type(value).__name__}, not {wanted}.")
    return value


def _stop(value: str | list[Any] | None) -> tuple[str, ...] | None:
    if value is None or isinstance(value, str):
        return None if value is None else (value,)
    if not all(isinstance(text, str) for text in value):
        raise RequestError("stop is no list of texts.")
    return tuple(value)


def _logit_bias(value: dict[str, Any] | None) -> dict[int, float] | None:
    if value is None:
        return None
    if not all(_is_id(key) and type(bias) in (int, float) for key, bias in value.items()):
        raise RequestError("logit_bias is no object of token ids and numbers.")
    try:
        return {int(key): float(bias) for key, bias in value.items()}
    except OverflowError:
        raise RequestError("logit_bias has a number beyond all floats.") from None


def _is_id(key: str) -> bool:
    return key.isdecimal() and len(key) <= 10


def completion_line(
    name: str, request: BatchRequest, made: Generation, model: str, text_of: Callable[[int], str]
) -> dict[str, Any]:
    """Return the result of a request that was completed. name: its `line_id`."""
    usage = {
        "prompt_tokens": len(made.prompt),
        "completion_tokens": len(made.tokens),
        "total_tokens": len(made.prompt) + len(made.tokens),
    }
    logprobs = _logprobs(made, text_of, is_chat=request.is_chat) if made.logprobs else None
    if not request.is_openai:
        plain = {"text": made.text, "finish_reason": made.finish_reason, "usage": usage}
        more = {} if logprobs is None else {"logprobs": logprobs}
        return {**_head(name, request.custom_id), **plain, "seed": made.seed, **more}
    message = {"message": {"role": "assistant", "content": made.text}}
    choice = {
        "index": 0,
        **(message if request.is_chat else {"text": made.text}),
        "logprobs": logprobs,
        "finish_reason": made.finish_reason,
    }
    kind = "chat.completion" if request.is_chat else "text_completion"
    body = {"id": name, "object": kind, "model": model, "choices": [choice], "usage": usage}
    response = {"status_code": 200, "request_id": name, "body": body}
    return {"id": name, "custom_id": request.custom_id, "response": response, "error": None}


def error_line(name: str, line: bytes, error: TonnageError) -> dict[str, Any]:
    """Return the result of a line that cannot be completed, in the form of the line."""
    custom_id, is_openai = None, False
    try:
        fields = json.loads(line[:MAX_LINE_BYTES])
        is_openai = "body" in fields
        custom_id = fields.get("custom_id")
    except (ValueError, RecursionError, TypeError, AttributeError):
        pass
    reason = {"code": type(error).__name__, "message": str(error)}
    custom_id = custom_id if isinstance(custom_id, str) else None
    if is_openai:
        return {"id": name, "custom_id": custom_id, "response": None, "error": reason}
    return {**_head(name, custom_id), "error": reason}


def _head(name: str, custom_id: str | None) -> dict[str, Any]:
    return {"id": name} if custom_id is None else {"id": name, "custom_id": custom_id}


def _logprobs(made: Generation, text_of: Callable[[int], str], *, is_chat: bool) -> dict[str, Any]:
    """Return log probabilities as the API of the line states them."""

    def named(pair: tuple[int, float]) -> dict[str, Any]:
        return {"token": text_of(pair[0]), "token_id": pair[0], "logprob": pair[1]}

    def one(sampled: TokenLogprob) -> dict[str, Any]:
        best = [named(pair) for pair in sampled.top]
        return {**named((sampled.token_id, sampled.logprob)), "top_logprobs": best}

    if is_chat:
        return {"content": [one(sampled) for sampled in made.logprobs]}
    return {
        "tokens": [text_of(sampled.token_id) for sampled in made.logprobs],
        "token_logprobs": [sampled.logprob for sampled in made.logprobs],
        "top_logprobs": [
            {text_of(token_id): value for token_id, value in sampled.top}
            for sampled in made.logprobs
        ],
    }
