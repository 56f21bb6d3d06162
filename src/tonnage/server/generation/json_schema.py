"""From a client's JSON Schema to one that means the same and that llguidance can bind to.

Specification: JSON Schema 2020-12, core and validation. What only annotates is left out, keywords
that can be said by others are, and what is left that cannot be obeyed is named.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from tonnage.core.record import record
from tonnage.server.generation.look_ahead import plain_pattern
from tonnage.server.generation.schema_document import Document
from tonnage.server.generation.schema_rewrites import Rewrites

# Formats that llguidance binds; any other is an annotation (validation, 7.2.1).
_FORMATS = frozenset(
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"]
)  # fmt: skip
_DIALECTS = ("json-schema.org/draft-0", "json-schema.org/draft/20")
# They change no verdict; x-guidance would let a client switch llguidance to leniency.
_SILENT = frozenset(
    [
        "$comment",
        "$vocabulary",
        "title",
        "description",
        "default",
        "examples",
        "example",
        "deprecated",
        "readOnly",
        "writeOnly",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
        "x-guidance",
    ]
)
_ONE = ("additionalProperties", "items", "additionalItems", "contains", "propertyNames", "not")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_DEFINITIONS = ("$defs", "definitions")
# Their results would have to be known before what is left over can be.
_APPLICATORS = frozenset(
    ["$ref", "$dynamicRef", "$recursiveRef", "allOf", "anyOf", "oneOf", "if", "dependentSchemas"]
)
# What counts beside `$ref` until draft 7 (draft-07 core, 8.3): it is not said of the same value.
_BESIDE_LONE = frozenset(["$ref", "$schema", "$id", "id", "$defs", "definitions"])
# They are rewritten from what the client sent.
_REWRITTEN = ("not", "contains")
_NOT_OBEYED = (
    "not", "if", "contains", "minContains", "maxContains", "uniqueItems", "propertyNames",
    "unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef",
)  # fmt: skip


@record
class Unbound:
    """A keyword that cannot be obeyed, and the JSON pointer of the schema that has it."""

    keyword: str
    pointer: str

    def __str__(self) -> str:
        """Return both in words."""
        return f"the keyword {self.keyword!r} at #{self.pointer}"


def bindable(schema: Any) -> tuple[Any, list[Unbound]]:
    """Return a schema of the same meaning, and what of it llguidance cannot obey.

    The order of members, which is that of a completion's, stays. Raises ValueError for what is no
    schema.
    """
    refs = set(_refs(schema))
    found: list[Unbound] = []
    try:
        document = Document(schema)
        plain = _Rewriting(refs, found, document, Rewrites(document)).schema(schema, "")
    except (TypeError, AttributeError):
        raise ValueError("a keyword of the schema has a value of the wrong type") from None
    return plain, found


def children(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yield the pointer and contents of every schema directly inside of one, definitions first."""
    if not isinstance(schema, dict):
        return
    for key in sorted(schema, key=lambda key: key not in _DEFINITIONS):
        value = schema[key]
        if key in _MAPS and isinstance(value, dict):
            yield from ((_step(key, name), one) for name, one in value.items())
        elif key in _LISTS and isinstance(value, list):
            yield from ((_step(key, number), one) for number, one in enumerate(value))
        elif key in _ONE:
            yield _step(key), value


def _refs(value: Any) -> Iterator[str]:
    """Yield every reference anywhere in a document."""
    if isinstance(value, list):
        for one in value:
            yield from _refs(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            if key == "$ref" and isinstance(one, str):
                yield unquote(one.rpartition("#")[2])
            else:
                yield from _refs(one)


def _step(*names: str | int) -> str:
    """Return a part of a JSON pointer (RFC 6901)."""
    return "".join("/" + str(one).replace("~", "~0").replace("/", "~1") for one in names)


class _Rewriting:
    """One pass over a schema."""

    def __init__(
        self, refs: set[str], found: list[Unbound], document: Document, rewrites: Rewrites
    ) -> None:
        """refs: fragments that are referred to. found: takes what cannot be obeyed."""
        self._refs = refs
        self._found = found
        self._document = document
        self._rewrites = rewrites

    def schema(self, schema: Any, pointer: str) -> Any:
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            raise ValueError(f"#{pointer} is no schema: it has to be an object or a boolean")
        if not self._document.may_go_on():
            raise ValueError("it takes too long to understand; make it smaller")
        if "$ref" in schema and self._document.has_lone_references:
            schema = {key: value for key, value in schema.items() if key in _BESIDE_LONE}
        plain: dict[str, Any] = {}
        for key, value in schema.items():
            if key not in _SILENT:
                plain[key] = self._inner(key, value, pointer)
        _leave_out_what_says_nothing(plain)
        _without_values(plain)
        _dynamic_references(plain, self._document)
        if not schema.keys() & _APPLICATORS:
            _close(plain)
        self._rewrite(schema, plain, pointer)
        _say_by_others(plain)
        self._pattern(plain, pointer)
        self._found += [Unbound(key, pointer) for key in _NOT_OBEYED if key in plain]
        return plain

    def _rewrite(self, given: Mapping[str, Any], plain: dict[str, Any], pointer: str) -> None:
        """Say otherwise what can be; `given` is what `plain` was made from."""
        for rewrite in self._rewrites.of(given, frozenset(plain)):
            said: Any
            if rewrite.schema == {"anyOf": given.get("oneOf")}:
                said = {"anyOf": plain["oneOf"]}
            else:
                found: list[Unbound] = []
                inner = _Rewriting(self._refs, found, self._document, self._rewrites)
                said = inner.schema(rewrite.schema, pointer)
                if found:
                    continue
            for key in rewrite.keys:
                plain.pop(key, None)
            if said is True:
                continue
            if "anyOf" not in plain and isinstance(said, dict) and said.keys() == {"anyOf"}:
                plain["anyOf"] = said["anyOf"]
            else:
                plain["allOf"] = [*plain.get("allOf", ()), said]

    def _inner(self, key: str, value: Any, pointer: str) -> Any:
        """Return a keyword's value with the schemas in it rewritten."""
        if key in _MAPS and isinstance(value, dict):
            return {
                name: self.schema(one, pointer + _step(key, name))
                if key not in _DEFINITIONS or self._is_used(pointer + _step(key, name), one)
                else one
                for name, one in value.items()
            }
        if key in _LISTS and isinstance(value, list):
            return [self.schema(v, pointer + _step(key, n)) for n, v in enumerate(value)]
        if key in _ONE and key not in _REWRITTEN:
            return self.schema(value, pointer + _step(key))
        return value

    def _is_used(self, pointer: str, schema: Any) -> bool:
        """Whether a definition may be referred to; what is not is not looked at."""
        if isinstance(schema, dict) and schema.keys() & {"$id", "id", "$anchor", "$dynamicAnchor"}:
            return True
        return any(
            ref == pointer or ref.startswith(pointer + "/") or (ref and pointer.endswith(ref))
            for ref in self._refs
        )

    def _pattern(self, plain: dict[str, Any], pointer: str) -> None:
        if isinstance(plain.get("pattern"), str):
            plain["pattern"] = self._plain(plain["pattern"], "pattern", pointer)
        if isinstance(plain.get("patternProperties"), dict):
            plain["patternProperties"] = {
                self._plain(pattern, "patternProperties", pointer): value
                for pattern, value in plain["patternProperties"].items()
            }

    def _plain(self, pattern: str, keyword: str, pointer: str) -> str:
        """Return a pattern without look-around; note where that cannot be."""
        plain = plain_pattern(pattern)
        if plain is None:
            self._found.append(Unbound(keyword, pointer))
        return pattern if plain is None else plain


def _leave_out_what_says_nothing(plain: dict[str, Any]) -> None:
    """Drop keywords whose values, or whose neighbours, make them mean nothing."""
    says_nothing: Mapping[str, bool] = {
        "format": str(plain.get("format")) not in _FORMATS,
        "$schema": not any(part in str(plain.get("$schema")) for part in _DIALECTS),
        "if": "then" not in plain and "else" not in plain,
        "then": "if" not in plain,
        "else": "if" not in plain,
        "not": plain.get("not") is False,
        "uniqueItems": not plain.get("uniqueItems") or plain.get("maxItems", 2) in (0, 1),
        "minContains": "contains" not in plain,
        "maxContains": "contains" not in plain,
        "propertyNames": plain.get("propertyNames") in (True, {}, {"type": "string"}),
        "unevaluatedProperties": plain.get("unevaluatedProperties") in (True, {})
        or "additionalProperties" in plain,
        "unevaluatedItems": plain.get("unevaluatedItems") in (True, {})
        or isinstance(plain.get("items"), dict | bool),
    }
    for key, is_void in says_nothing.items():
        if is_void and key in plain:
            del plain[key]


def _say_by_others(plain: dict[str, Any]) -> None:
    """Replace keywords by others that say the same."""
    for key in _COUNTS:
        if isinstance(plain.get(key), float) and plain[key].is_integer():
            plain[key] = int(plain[key])
    if "$dynamicAnchor" in plain:
        plain["$anchor"] = plain.pop("$dynamicAnchor")  # what is left of it without $dynamicRef
    _contains_anything(plain)
    _property_names(plain)
    conditions = _conditions(plain)
    if conditions:
        plain["allOf"] = [*plain.get("allOf", ()), *conditions]


def _close(plain: dict[str, Any]) -> None:
    """Without applicators beside, what is not evaluated is what is additional."""
    if "unevaluatedProperties" in plain:
        plain["additionalProperties"] = plain.pop("unevaluatedProperties")
    if "unevaluatedItems" in plain and "contains" not in plain:
        # Draft 2019-09 has a list of first items there.
        key = "additionalItems" if isinstance(plain.get("items"), list) else "items"
        plain.setdefault(key, plain.pop("unevaluatedItems"))


def _contains_anything(plain: dict[str, Any]) -> None:
    """Any item counts, so their number does."""
    if plain.get("contains") in (True, {}):
        least, most = plain.pop("minContains", 1), plain.pop("maxContains", None)
        plain["minItems"] = max(plain.get("minItems", 0), least)
        if most is not None:
            plain["maxItems"] = min(plain.get("maxItems", most), most)
        del plain["contains"]
    elif plain.get("minContains") == 0 and "maxContains" not in plain:
        del plain["minContains"], plain["contains"]


def _property_names(plain: dict[str, Any]) -> None:
    """Names by a pattern or a list, where no other keyword says what properties hold."""
    names = plain.get("propertyNames")
    if not isinstance(names, dict) or "properties" in plain or "patternProperties" in plain:
        return
    rule = {key: value for key, value in names.items() if key != "type"}
    if rule and rule.keys() <= {"minLength", "maxLength"}:
        least, most = rule.get("minLength", 0), rule.get("maxLength", "")
        rule = {"pattern": f"^[\\s\\S]{{{least},{most}}}$"}
    value = plain.get("additionalProperties", True)
    if rule.keys() == {"pattern"}:
        plain["patternProperties"] = {rule["pattern"]: value}
    elif rule.keys() == {"enum"} or rule.keys() == {"const"}:
        allowed = rule.get("enum", [rule.get("const")])
        plain["properties"] = {name: value for name in allowed if isinstance(name, str)}
    else:
        return
    del plain["propertyNames"]
    plain["additionalProperties"] = False


def _without_values(plain: dict[str, Any]) -> None:
    """`not` takes values out of `enum`."""
    other = plain.get("not")
    if isinstance(other, dict) and "enum" in plain and other.keys() <= {"enum", "const"} and other:
        forbidden = [*other.get("enum", ()), *([other["const"]] if "const" in other else ())]
        if len(other) == 1:
            plain["enum"] = [one for one in plain["enum"] if not _is_in(one, forbidden)]
            del plain["not"]


def _dynamic_references(plain: dict[str, Any], document: Document) -> None:
    """Take a dynamic reference for a plain one where there is one thing that it can name."""
    if "$ref" in plain or document.has_bases:
        return
    name = str(plain.get("$dynamicRef", "")).removeprefix("#")
    if "$dynamicRef" in plain and (name.startswith("/") or document.num_anchors(name) == 1):
        plain["$ref"] = plain.pop("$dynamicRef")
    elif plain.get("$recursiveRef") == "#" and not document.has_recursive_anchors:
        plain["$ref"] = plain.pop("$recursiveRef")


def _is_in(value: Any, values: list[Any]) -> bool:
    """Whether JSON values hold `value`: true is no 1 there."""
    return any(one == value and isinstance(one, bool) == isinstance(value, bool) for one in values)


def _conditions(plain: dict[str, Any]) -> list[Any]:
    """Take out what depends on a property's presence; return it as alternatives."""
    found: list[Any] = []
    for key in ("dependentRequired", "dependentSchemas", "dependencies"):
        rules = plain.pop(key, None)
        for name, rule in rules.items() if isinstance(rules, dict) else ():
            then = {"required": rule} if isinstance(rule, list) else rule
            has = {"required": [name], "allOf": [then]}
            found.append({"anyOf": [{"properties": {name: False}}, has]})
    return found
