"""POST /v1/responses. Nothing is stored: every request brings its whole conversation."""

import logging
import time
from typing import Any

import msgspec

from tonnage.server.generation.call_formats import fresh_id
from tonnage.server.generation.delivery import deliver
from tonnage.server.generation.reasoning import template_variables
from tonnage.server.generation.tool_use import ToolUse, tool_use
from tonnage.server.http.decoding import decode
from tonnage.server.http.exchange import HttpExchange
from tonnage.server.models.service import PreparedRequest, Service, options_of
from tonnage.server.models.tenants import Tenant
from tonnage.server.observe.log import log
from tonnage.server.openai.forms import form_of
from tonnage.server.openai.response_input import (
    function_tools,
    functions_of,
    skipped_types,
    turns_of_input,
)
from tonnage.server.openai.response_schema import Reasoning, ResponseRequest, TextSettings
from tonnage.server.openai.response_writer import ResponseWriter
from tonnage.server.openai.schema import ToolChoices
from tonnage.server.openai.tool_choice import choice_of
from tonnage.server.openai.unsupported import require_nothing_stored


async def respond(service: Service, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
    """Answer the input, whole or as a stream of events."""
    prepared, base = await exchange.prepared(lambda: _prepared(service, tenant, body))
    await deliver(service, exchange, prepared, ResponseWriter(base, prepared))


async def _prepared(
    service: Service, tenant: Tenant, body: bytes
) -> tuple[PreparedRequest, dict[str, Any]]:
    """Return what is asked for, and what every response to it says."""
    request = decode(ResponseRequest, body)
    require_nothing_stored(request)
    use = _tool_use(request)
    effort = request.reasoning.effort if request.reasoning is not None else None
    verbosity = request.text.verbosity if request.text is not None else None
    variables = template_variables(effort, verbosity)
    tokens = await service.encode_chat(turns_of_input(request), use.tools, variables)
    prompt = service.fit(tokens, request.truncation, request.max_output_tokens)
    asked = request.text.format if request.text is not None else None
    form = form_of(request, asked, "text.format")
    constraint = await service.aside(lambda: service.structured.of_request(use, form))
    options = options_of(request, max_tokens=request.max_output_tokens, constraint=constraint)
    parameters = service.parameters(request, tenant)
    rules = use.rules(service.engine.tokenizer, is_bound=form is not None)
    prepared = PreparedRequest(
        [prompt],
        options,
        parameters,
        call_rules=rules,
        is_stream=bool(request.stream),
        reasoning=service.reasoning_start(prompt, options),
    )
    return prepared, _base(service.name, request)


def _base(model: str, request: ResponseRequest) -> dict[str, Any]:
    """Return what does not depend on the completion; what came with the request stays JSON."""
    body = {
        "id": fresh_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "model": model,
        "error": None,
        "background": False,
        "conversation": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "metadata": _json(request.metadata or {}),
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt": None,
        "reasoning": request.reasoning or Reasoning(),
        "temperature": request.temperature,
        "top_p": request.top_p,
        "tool_choice": _choice_given(request.tool_choice),
        "tools": _json(function_tools(request)),
        "store": False,
        "text": _text_settings(request.text),
        "truncation": request.truncation or "disabled",
    }
    skipped = skipped_types(request)
    if skipped:
        names = ", ".join(skipped)
        log(logging.INFO, f"Tools and items of types that are not known were left out: {names}.")
        body["skipped_types"] = skipped
    return body


def _json(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _choice_given(choice: ToolChoices | None) -> Any:
    """Return the choice of a request as it was written."""
    if choice is None or isinstance(choice, str):
        return choice or "auto"
    return {"type": choice.type, **msgspec.to_builtins(choice)}


def _text_settings(text: TextSettings | None) -> dict[str, Any]:
    """Return how the text was to be, as the request wrote it."""
    form = text.format if text is not None else None
    text_format: dict[str, Any] = {"type": "text" if form is None else form.type}
    if form is not None and form.type == "json_schema":
        text_format |= {"name": form.name, "description": form.description, "strict": form.strict}
        text_format["schema"] = _json(form.json_schema if form.schema is None else form.schema)
    settings: dict[str, Any] = {"format": text_format}
    if text is not None and text.verbosity is not None:
        settings["verbosity"] = text.verbosity
    return settings


def _tool_use(request: ResponseRequest) -> ToolUse:
    choice = choice_of(request.tool_choice)
    functions = functions_of(request)
    return tool_use(functions, choice, is_parallel=request.parallel_tool_calls)
