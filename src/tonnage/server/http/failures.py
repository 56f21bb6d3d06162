"""From an exception to a status and an error object that clients of either interface understand."""

from collections.abc import Mapping
from typing import Any

from tonnage.core.errors import (
    ChatTemplateError,
    ContextLengthError,
    DeadlineError,
    NoChatTemplateError,
    OverloadError,
    RequestError,
    TokenizerError,
    TonnageError,
)

# `code` of what is a bug of the server.
INTERNAL_ERROR = "internal_error"
# What Anthropic's clients expect as the type of an error, by status.
_ANTHROPIC_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_OPENAI_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class HttpError(Exception):
    """An answer that is an error: status, sentence, and OpenAI's `code` and `param`."""

    def __init__(
        self,
        status: int,
        sentence: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """headers: more header fields of the answer, such as Retry-After."""
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def openai(self) -> dict[str, Any]:
        """Return OpenAI's error object."""
        server_fault = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = _OPENAI_KINDS.get(self.status, server_fault)
        error = {"message": self.sentence, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    def anthropic(self) -> dict[str, Any]:
        """Return Anthropic's error object."""
        server_fault = "api_error" if self.status >= 500 else "invalid_request_error"
        kind = _ANTHROPIC_KINDS.get(self.status, server_fault)
        return {"type": "error", "error": {"type": kind, "message": self.sentence}}


def failure_of(error: BaseException, request_id: str) -> HttpError:
    """Return the answer for `error`; what is not the client's fault shows nothing of the inside.

    request_id: with which the operator finds in the log what the client does not see.
    """
    match error:
        case HttpError():
            return error
        case OverloadError(retry_after_s=None):
            return HttpError(400, str(error), code="never_fits")
        case OverloadError(retry_after_s=float() | int() as wait_s):
            return too_many(str(error), wait_s)
        case ContextLengthError():
            return HttpError(400, str(error), code="context_length_exceeded", param="messages")
        case NoChatTemplateError():
            sentence = (
                "The model is a base model without a chat template: it continues text and does not "
                "chat; send text to /v1/completions, or choose another model."
            )
            return HttpError(400, sentence, code="no_chat_template", param="messages")
        case RequestError() | ChatTemplateError() | TokenizerError():
            return HttpError(400, str(error), code="invalid_value")
        case TimeoutError() | DeadlineError():
            return HttpError(504, "The request's deadline has passed.", code="deadline_exceeded")
        case TonnageError():
            return HttpError(500, str(error), code="engine_error")
        case _:
            name = type(error).__name__
            sentence = f"The server failed ({name}); its log says more about request {request_id}."
            return HttpError(500, sentence, code=INTERNAL_ERROR)


def too_many(sentence: str, retry_after_s: float) -> HttpError:
    """Return a 429 that says when to come back, in whole seconds from 1."""
    seconds = max(1, min(3600, -int(-retry_after_s // 1)))
    return HttpError(
        429, sentence, code="rate_limit_exceeded", headers={"retry-after": str(seconds)}
    )
