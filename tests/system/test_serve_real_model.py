"""Answers of SmolLM2 bound to schemas: 20 schemas, 10 draws each."""

import json

import openai
import pytest

from support.live_server import NAME, live
from support.models import NO_MODEL, model_file
from tonnage.engine.engine import Engine

MODEL = model_file()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not MODEL.is_file(), reason=NO_MODEL),
]
TEXT = {"type": "string", "maxLength": 24}
COUNT = {"type": "integer", "minimum": 0, "maximum": 999}
KINDS: list[dict[str, object]] = [
    TEXT,
    COUNT,
    {"type": "boolean"},
    {"enum": ["red", "green", "blue"]},
    {"type": "array", "items": COUNT, "maxItems": 3},
]


def whole(**properties: object) -> dict[str, object]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SCHEMAS = [
    *(whole(value=kind) for kind in KINDS),
    *(whole(name=TEXT, value=kind) for kind in KINDS),
    *(whole(items={"type": "array", "items": whole(v=kind), "maxItems": 2}) for kind in KINDS),
    *(whole(inner=whole(deep=whole(value=kind)), flag={"type": "boolean"}) for kind in KINDS),
]


def keeps(value: object, schema: dict) -> bool:
    """Whether a value has the form of a schema of the kinds above."""
    if "enum" in schema:
        return value in schema["enum"]
    match schema["type"]:
        case "object":
            names = schema["properties"]
            return (
                isinstance(value, dict)
                and value.keys() == names.keys()
                and all(keeps(value[name], names[name]) for name in names)
            )
        case "array":
            fits = isinstance(value, list) and len(value) <= schema["maxItems"]
            return fits and all(keeps(one, schema["items"]) for one in value)
        case "string":
            return isinstance(value, str) and len(value) <= 24
        case "boolean":
            return isinstance(value, bool)
        case _:
            return type(value) is int and 0 <= value <= 999


def test_200_of_200_answers_keep_their_schemas():
    kept = 0
    with (
        Engine.open(str(MODEL), context=1024, concurrency=5) as engine,
        live(engine) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=300) as client,
    ):
        for number, schema in enumerate(SCHEMAS):
            answer = client.chat.completions.create(
                model=NAME,
                messages=[{"role": "user", "content": "Describe something as JSON."}],
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": schema},
                },
                n=10,
                seed=number,
                max_tokens=400,
            )
            kept += sum(keeps(json.loads(c.message.content), schema) for c in answer.choices)
    assert (len(SCHEMAS), kept) == (20, 200)
