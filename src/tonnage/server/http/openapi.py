"""The OpenAPI document, made from the routes and from the structures that requests are read into.

Specification: OpenAPI 3.1.0; the schemas are msgspec's.
"""

from typing import Any

import msgspec

from tonnage.server.anthropic import schema as anthropic_schema
from tonnage.server.openai import response_schema
from tonnage.server.openai import schema as openai_schema

_REQUESTS: dict[str, type] = {
    "/v1/chat/completions": openai_schema.ChatRequest,
    "/v1/completions": openai_schema.CompletionRequest,
    "/v1/embeddings": openai_schema.EmbeddingRequest,
    "/v1/responses": response_schema.ResponseRequest,
    "/v1/messages": anthropic_schema.MessageRequest,
    "/v1/messages/count_tokens": anthropic_schema.CountRequest,
    "/tokenize": openai_schema.TokenizeRequest,
    "/detokenize": openai_schema.DetokenizeRequest,
    "/models/load": openai_schema.ModelRequest,
    "/models/unload": openai_schema.ModelRequest,
}
_ERRORS = ("400", "401", "403", "404", "405", "408", "409", "413", "415", "429", "503", "504")
_STREAMS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")


def document(routes: dict[str, list[str]], version: str, *, with_keys: bool) -> dict[str, Any]:
    """Return the document; routes: path -> methods. with_keys: requests need one."""
    kinds = list(_REQUESTS.values())
    schemas, components = msgspec.json.schema_components(
        kinds, ref_template="#/components/schemas/{name}"
    )
    bodies = dict(zip(_REQUESTS, schemas, strict=True))
    paths = {
        path: {method.lower(): _operation(path, bodies.get(path)) for method in methods}
        for path, methods in routes.items()
    }
    whole: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "tonnage serve", "version": version},
        "paths": paths,
        "components": {"schemas": components},
    }
    if with_keys:
        whole["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        whole["security"] = [{"key": []}]
    return whole


def _operation(path: str, schema: dict[str, Any] | None) -> dict[str, Any]:
    kinds = ["text/plain"] if path == "/metrics" else ["application/json"]
    kinds += ["text/event-stream"] if path in _STREAMS else []
    ok = {"description": "The answer.", "content": {kind: {} for kind in kinds}}
    failed = {"description": "An error.", "content": {"application/json": {}}}
    operation: dict[str, Any] = {"responses": {"200": ok, **dict.fromkeys(_ERRORS, failed)}}
    if schema is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    if "{model}" in path:
        operation["parameters"] = [
            {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
        ]
    return operation
