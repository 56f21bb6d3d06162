"""What requests ask for that needs a server which keeps things."""

from tonnage.server.http.failures import HttpError
from tonnage.server.openai.response_schema import ResponseRequest
from tonnage.server.openai.schema import ServiceFields


def require_nothing_kept(request: ServiceFields) -> None:
    """Raise HttpError 400 where the completion is to be stored."""
    if request.store:
        raise unsupported("Nothing is stored, so store is refused; leave it out.", "store")


def require_nothing_stored(request: ResponseRequest) -> None:
    """Raise HttpError 400 for a response that is to be stored, or to be made without a client."""
    require_nothing_kept(request)
    if request.background:
        raise unsupported(
            "Responses are not stored, so background is refused; wait for it, or stream.",
            "background",
        )


def unsupported(sentence: str, name: str) -> HttpError:
    """Return the refusal of the field `name`."""
    return HttpError(400, sentence, code="unsupported_parameter", param=name)
