"""The JSON schema of all values that another one does not allow.

A keyword is broken by values of the type that it is about, so the negation of a schema is one
alternative per keyword. What has none, such as `multipleOf`, has no negation.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Set
from itertools import pairwise
from typing import Any

from tonnage.server.generation.schema_apart import ATOMS, are_apart, atoms_of, canonical
from tonnage.server.generation.schema_document import Document

_SILENT = frozenset(
    [
        "$schema", "$id", "id", "$anchor", "$defs", "definitions", "$comment", "title",
        "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly",
        "then", "else",
    ]
)  # fmt: skip


class NotNegatableError(Exception):
    """No schema says the opposite."""


class Negation:
    """Negates schemas of one document."""

    def __init__(self, document: Document) -> None:
        """Take the document whose schemas are negated."""
        self._document = document
        self._rules: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {
            "const": lambda value, _: without([value]),
            "enum": lambda value, _: without(value),
            "minLength": lambda value, _: _below("string", "maxLength", value),
            "maxLength": lambda value, _: {"type": "string", "minLength": value + 1},
            "minItems": lambda value, _: _below("array", "maxItems", value),
            "maxItems": lambda value, _: {"type": "array", "minItems": value + 1},
            "minProperties": lambda value, _: _below("object", "maxProperties", value),
            "maxProperties": lambda value, _: {"type": "object", "minProperties": value + 1},
            "minimum": lambda value, _: _number("exclusiveMaximum", value),
            "maximum": lambda value, _: _number("exclusiveMinimum", value),
            "exclusiveMinimum": lambda value, _: _number("maximum", value),
            "exclusiveMaximum": lambda value, _: _number("minimum", value),
            "pattern": lambda value, _: all_of(map(_mismatch, alternatives(value))),
            "required": lambda value, _: any_of(map(_lacks, value)),
            "properties": lambda value, _: self._properties(value),
            "prefixItems": lambda value, _: self._prefix(value),
            "allOf": lambda value, _: any_of(map(self.of, value)),
            "anyOf": lambda value, _: all_of(map(self.of, value)),
            "oneOf": lambda value, _: self._one_of(value),
            "not": lambda value, _: value,
            "if": lambda value, schema: self._if(value, schema),
        }

    def of(self, schema: Any, within: Set[str] = ATOMS) -> Any:
        """Return the negation. Raises NotNegatableError.

        within: types that values have anyway, as `atoms_of` names them.
        """
        if not self._document.may_go_on():
            raise NotNegatableError
        if isinstance(schema, bool):
            return not schema
        if not isinstance(schema, dict):
            raise NotNegatableError
        keys = [key for key in schema if key not in _SILENT]
        if "$ref" in keys and len(keys) > 1:
            raise NotNegatableError  # what stands beside it counts in some drafts only
        return any_of(self._broken(key, schema, within) for key in keys)

    def _broken(self, key: str, schema: Mapping[str, Any], within: Set[str]) -> Any:
        """Return what breaks one keyword."""
        if key == "type":
            return _of_atoms(within - atoms_of({"type": schema[key]}))
        if key == "$ref":
            return self.of(self._document.resolve(schema[key]), within)
        rule = self._rules.get(key)
        if rule is not None:
            return rule(schema[key], schema)
        if schema[key] in (True, {}) and key in ("additionalProperties", "items"):
            return False
        raise NotNegatableError

    def _properties(self, properties: Mapping[str, Any]) -> Any:
        broken = ((name, self.of(one)) for name, one in properties.items())
        return any_of(
            {"type": "object", "properties": {name: one}, "required": [name]}
            for name, one in broken
            if one is not False
        )

    def _prefix(self, items: list[Any]) -> Any:
        broken = ((number, self.of(one)) for number, one in enumerate(items))
        return any_of(
            self._document.with_item(number, one) for number, one in broken if one is not False
        )

    def _one_of(self, cases: list[Any]) -> Any:
        if not all_apart(cases, self._document):
            raise NotNegatableError
        return all_of(map(self.of, cases))

    def _if(self, condition: Any, schema: Mapping[str, Any]) -> Any:
        then, other = schema.get("then", True), schema.get("else", True)
        return any_of(
            [
                all_of([condition, self.of(then)]),
                all_of([self.of(condition), self.of(other)]),
            ]
        )


def all_apart(cases: list[Any], document: Document) -> bool:
    """Whether no value fits two of the schemas."""
    return all(
        are_apart(one, other, document)
        for number, one in enumerate(cases)
        for other in cases[number + 1 :]
    )


def any_of(cases: Iterable[Any]) -> Any:
    """Return the schema of what fits one of several."""
    found = [case for case in cases if case is not False]
    if any(case in (True, {}) for case in found):
        return True
    if not found:
        return False
    return found[0] if len(found) == 1 else {"anyOf": found}


def all_of(parts: Iterable[Any]) -> Any:
    """Return the schema of what fits all of several."""
    found = [part for part in parts if part is not True and part != {}]
    if False in found:
        return False
    if not found:
        return True
    return found[0] if len(found) == 1 else {"allOf": found}


def without(values: list[Any]) -> Any:
    """Return the schema of all other values. Raises NotNegatableError for lists and objects."""
    if any(isinstance(value, list | dict) for value in values):
        raise NotNegatableError
    forbidden = {canonical(value) for value in values}
    texts = [value for value in values if isinstance(value, str)]
    numbers = sorted({v for v in values if isinstance(v, int | float) and not isinstance(v, bool)})
    free = ["object", "array"]
    cases: list[Any] = [{"enum": [one]} for one in (True, False) if canonical(one) not in forbidden]
    if None not in values:
        free.append("null")
    if texts:
        listed = "|".join(map(re.escape, texts))
        cases.append({"type": "string", "pattern": f"^(?!(?:{listed})$)"})
    else:
        free.append("string")
    if numbers:
        cases.append(_number("exclusiveMaximum", numbers[0]))
        cases.append(_number("exclusiveMinimum", numbers[-1]))
        for low, high in pairwise(numbers):
            cases.append({**_number("exclusiveMinimum", low), "exclusiveMaximum": high})
    else:
        free.append("number")
    return any_of([{"type": free}, *cases])


def _of_atoms(atoms: Set[str]) -> Any:
    """Return the schema of some types. Raises NotNegatableError for fractions: they have none."""
    if "fraction" in atoms:
        if "integer" not in atoms:
            raise NotNegatableError
        atoms = atoms - {"integer", "fraction"} | {"number"}
    return {"type": sorted(atoms)} if atoms else False


def alternatives(pattern: str) -> list[str]:
    """Return the alternatives of a regular expression, those that no parentheses are around."""
    cuts, depth = [-1], 0
    for found in _REGEX.finditer(pattern):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if found[0] == "|" and depth == 0:
            cuts.append(found.start())
    return [pattern[low + 1 : high] for low, high in pairwise([*cuts, len(pattern)])]


# Escapes and classes as wholes, and what groups.
_REGEX = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]|[()|]", re.DOTALL)


def _mismatch(pattern: str) -> dict[str, Any]:
    """Return the schema of texts without a match of one alternative."""
    begin = pattern[1:] if pattern.startswith("^") else f"[\\s\\S]*(?:{pattern})"
    return {"type": "string", "pattern": f"^(?!{begin})"}


def _below(kind: str, most: str, count: int) -> Any:
    return {"type": kind, most: count - 1} if count > 0 else False


def _number(bound: str, value: float) -> dict[str, Any]:
    if isinstance(value, bool):
        raise NotNegatableError  # draft 4's exclusiveMinimum
    return {"type": "number", bound: value}


def _lacks(name: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: False}}
