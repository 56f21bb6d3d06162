"""Every shape in which clients ask for an answer of a form, as one `Form`.

OpenAI's `response_format` and `text.format`; `guided_*` and `structured_outputs` of vLLM; `grammar`
and `json_schema` of llama.cpp; `regex` and `ebnf` of SGLang.
"""

from typing import Any

import msgspec

from tonnage.server.generation.grammars import Form
from tonnage.server.http.decoding import check_depth
from tonnage.server.http.failures import HttpError
from tonnage.server.openai.response_schema import TextFormat
from tonnage.server.openai.schema import BoundFields, ResponseFormat

_ANY_OBJECT = {"type": "object"}
_KINDS = {
    "guided_json": "schema", "json_schema": "schema", "json": "schema",
    "guided_regex": "regex", "regex": "regex",
    "guided_grammar": "lark", "grammar": "lark", "ebnf": "lark",
    "guided_choice": "choice", "choice": "choice",
}  # fmt: skip


def form_of(
    request: BoundFields,
    format_: ResponseFormat | TextFormat | None,
    where: str = "response_format",
) -> Form | None:
    """Return the form that a request asks for, None where its text is free.

    format_: OpenAI's own, in the field `where`. Raises HttpError 400 for a shape that is
    broken, and for two forms.
    """
    found = [_of_field(name, value, name) for name, value in _stated(request)]
    if request.structured_outputs is not None:
        for name, value in _stated(request.structured_outputs):
            found.append(_of_field(name, value, f"structured_outputs.{name}"))
    own = _of_format(format_, where)
    forms = [form for form in (own, *found) if form is not None]
    if len(forms) > 1:
        names = " and ".join(form.where for form in forms)
        raise HttpError(400, f"{names} bind the same answer; send one.", param=forms[1].where)
    return forms[0] if forms else None


def _stated(fields: msgspec.Struct) -> list[tuple[str, Any]]:
    names = [name for name in fields.__struct_fields__ if name in (*_KINDS, "json_object")]
    return [(name, getattr(fields, name)) for name in names if getattr(fields, name) is not None]


def _of_format(format_: ResponseFormat | TextFormat | None, where: str) -> Form | None:
    if format_ is None or format_.type == "text":
        return None
    match format_.type:
        case "json_object":
            schema = _ANY_OBJECT if format_.schema is None else format_.schema
            return _of_field("json_schema", schema, where)
        case "json_schema":
            return _of_field("json_schema", _schema(format_, where), where)
        case kind:
            value = getattr(format_, kind)
            if not value:
                raise HttpError(400, f"{where} of type {kind} needs {kind}.", param=where)
            return _of_field(kind, value, where)


def _schema(format_: ResponseFormat | TextFormat, where: str) -> Any:
    """Return the schema, which stands where OpenAI has it, or where other servers have it."""
    inner = format_.json_schema
    if inner is None:
        schema = format_.schema
    elif "schema" in inner:
        schema = inner["schema"]
    else:
        schema = {key: one for key, one in inner.items() if key not in ("name", "strict")} or None
    if schema is None:
        raise HttpError(400, f"{where} of type json_schema needs a schema.", param=where)
    return schema


def _of_field(name: str, value: Any, where: str) -> Form | None:
    if name == "json_object":
        return Form("schema", _ANY_OBJECT, where) if value else None
    kind = _KINDS[name]
    if kind == "schema" and isinstance(value, str):
        value = _decoded(value, where)
    return Form(kind, value, where)  # type: ignore[arg-type]


def _decoded(text: str, where: str) -> Any:
    """Return the JSON that a string holds."""
    check_depth(text.encode())
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise HttpError(400, f"{where} is no JSON: {error}.", param=where) from None
