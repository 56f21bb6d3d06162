"""A setting has one range, whichever interface it comes by."""

from typing import get_type_hints

import msgspec
import pytest

from tonnage.core.errors import RequestError
from tonnage.core.sampling import SamplingOptions, range_of
from tonnage.server.anthropic.schema import MessageRequest
from tonnage.server.openai.response_schema import ResponseRequest
from tonnage.server.openai.schema import ChatRequest, CompletionRequest

REQUESTS = (ChatRequest, CompletionRequest, ResponseRequest, MessageRequest)
SETTINGS = (
    "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty",
)  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_a_server_takes_what_the_command_line_takes(name):
    kinds = [get_type_hints(kind, include_extras=True).get(name) for kind in REQUESTS]
    low, high = range_of(name)
    whole = name == "top_k"
    for hint in filter(None, kinds):
        for value in (low, high):
            assert msgspec.convert(value, hint) == value
            SamplingOptions(**{name: value})
        for value in (low - 1, high + 1) if whole else (low - 0.125, high + 0.125):
            with pytest.raises(msgspec.ValidationError):
                msgspec.convert(value, hint)
            with pytest.raises(RequestError, match=name):
                SamplingOptions(**{name: value})


def test_what_has_no_range_is_told():
    with pytest.raises(ValueError, match="stop has no range"):
        range_of("stop")
