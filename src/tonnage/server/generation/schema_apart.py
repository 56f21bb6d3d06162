"""Whether two JSON schemas can have a value in common, by what is written in them.

Only what is certain counts: a discriminator, types, constants, lengths, ranges.
"""

import json
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

from tonnage.server.generation.schema_document import Document

# JSON Schema's types, with numbers split so that no two overlap.
ATOMS = frozenset(["null", "boolean", "object", "array", "string", "integer", "fraction"])
_MAX_DEPTH = 8


def canonical(value: Any) -> str:
    """Return a text that equal JSON values share: 1 is 1.0 and not true."""
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return value


def values_of(schema: Mapping[str, Any]) -> list[Any] | None:
    """Return the values that `enum` or `const` lists, None without either."""
    if "const" in schema:
        return [schema["const"]]
    values = schema.get("enum")
    return values if isinstance(values, list) else None


def are_apart(first: Any, second: Any, document: Document, depth: int = 0) -> bool:
    """Whether certainly no value fits both schemas of a document."""
    if first is False or second is False:
        return True
    if depth > _MAX_DEPTH or not document.may_go_on():
        return False
    if not isinstance(first, dict) or not isinstance(second, dict):
        return False

    def apart(one: Any, other: Any) -> bool:
        return are_apart(one, other, document, depth + 1)

    for one, other in ((first, second), (second, first)):
        if "$ref" in one:
            # What stands beside it counts since draft 2019-09 only.
            return apart(document.resolve(str(one["$ref"])), other)
        if any(apart(part, other) for part in one.get("allOf", ())):
            return True
        for key in ("anyOf", "oneOf"):
            cases = one.get(key)
            if isinstance(cases, list) and all(apart(case, other) for case in cases):
                return True
    common = atoms_of(first) & atoms_of(second)
    return all(_apart_on(kind, first, second, apart) for kind in common)


def atoms_of(schema: Mapping[str, Any]) -> frozenset[str]:
    """Return the types, of `ATOMS`, that a schema's `type` and lists of values allow."""
    given = schema.get("type")
    names = [given] if isinstance(given, str) else given
    allowed = ATOMS
    if isinstance(names, list):
        numbers = ("integer", "fraction") if "number" in names else ()
        allowed &= frozenset([*names, *numbers])
    values = values_of(schema)
    return allowed if values is None else allowed & frozenset(map(_atom, values))


def _atom(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
    return "integer" if value == value // 1 else "fraction"


def _apart_on(
    kind: str,
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    apart: Callable[[Any, Any], bool],
) -> bool:
    """Whether no value of one type fits both."""
    listed = [_listed(kind, schema) for schema in (first, second)]
    if None not in listed:
        return not set(map(canonical, listed[0] or ())) & set(map(canonical, listed[1] or ()))
    for values, other in zip(listed, (second, first), strict=True):
        if values is not None and all(_is_outside(value, other) for value in values):
            return True
    match kind:
        case "object":
            return _properties_apart(first, second, apart)
        case "array":
            return _sizes_apart(first, second, "minItems", "maxItems") or _items_apart(
                first, second, apart
            )
        case "string":
            return _sizes_apart(first, second, "minLength", "maxLength")
        case "integer" | "fraction":
            return _ranges_apart(first, second)
    return False


def _listed(kind: str, schema: Mapping[str, Any]) -> list[Any] | None:
    values = values_of(schema)
    return None if values is None else [value for value in values if _atom(value) == kind]


def _is_outside(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a text or number breaks a bound."""
    if isinstance(value, str):
        size = {"minLength": len(value), "maxLength": len(value)}
        return _sizes_apart(size, schema, "minLength", "maxLength")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _ranges_apart({"minimum": value, "maximum": value}, schema)
    return False


def _sizes_apart(
    first: Mapping[str, Any], second: Mapping[str, Any], least: str, most: str
) -> bool:
    pairs = ((first, second), (second, first))
    return any(a.get(least, 0) > b.get(most, float("inf")) for a, b in pairs)


def _ranges_apart(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    pairs = ((first, second), (second, first))
    for (a, b), (least, is_above), (most, is_below) in product(pairs, _LEAST, _MOST):
        low, high = a.get(least), b.get(most)
        if None in (low, high) or isinstance(low, bool) or isinstance(high, bool):
            continue  # draft 4 has booleans there
        if low > high or (low == high and (is_above or is_below)):
            return True
    return False


_LEAST = (("minimum", False), ("exclusiveMinimum", True))
_MOST = (("maximum", False), ("exclusiveMaximum", True))


def _properties_apart(
    first: Mapping[str, Any], second: Mapping[str, Any], apart: Callable[[Any, Any], bool]
) -> bool:
    names = {*first.get("required", ()), *second.get("required", ())}
    return any(apart(_property(first, name), _property(second, name)) for name in names)


def _property(schema: Mapping[str, Any], name: str) -> Any:
    """Return what a property has to fit, True where that is not certain."""
    properties = schema.get("properties", {})
    if name in properties:
        return properties[name]
    return True if "patternProperties" in schema else schema.get("additionalProperties", True)


def _items_apart(
    first: Mapping[str, Any], second: Mapping[str, Any], apart: Callable[[Any, Any], bool]
) -> bool:
    least = max(first.get("minItems", 0), second.get("minItems", 0))
    pairs = zip(first.get("prefixItems", ()), second.get("prefixItems", ()), strict=False)
    return any(number < least and apart(a, b) for number, (a, b) in enumerate(pairs))
