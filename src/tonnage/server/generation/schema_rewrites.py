"""Keywords that llguidance does not know, as schemas of the same meaning that it does.

Each is a case of: what is not so (`not`, `if`, cases of `oneOf` that may overlap), where something
stands (`contains`), which lists there are (`uniqueItems`).
"""

from collections.abc import Container, Iterator, Mapping
from itertools import permutations
from typing import Any

from tonnage.core.record import record
from tonnage.server.generation.schema_apart import ATOMS, are_apart, atoms_of, canonical, values_of
from tonnage.server.generation.schema_document import Document
from tonnage.server.generation.schema_negation import (
    Negation,
    NotNegatableError,
    all_apart,
    all_of,
    any_of,
)
from tonnage.server.generation.schema_unevaluated import Unevaluated

_NOT_ARRAYS = ["null", "boolean", "object", "string", "number"]
_UNEVALUATED = ("unevaluatedProperties", "unevaluatedItems")
# What a schema may say that lists its values.
_LISTING = frozenset(["title", "description", "default", "enum", "const", "type"])
_MOST_PLACES = 16
_MOST_LISTS = 512


@record
class Rewrite:
    """A schema that says what the keywords `keys` do; the first of them gives the name."""

    keys: tuple[str, ...]
    schema: Any


class Rewrites:
    """Finds what can be said otherwise in the schemas of a document."""

    def __init__(self, document: Document) -> None:
        """Take the document."""
        self._document = document
        self._negation = Negation(document)
        self._unevaluated = Unevaluated(document, self._negation)

    def of(self, schema: Mapping[str, Any], keys: Container[str]) -> Iterator[Rewrite]:
        """Yield what can be said otherwise of one schema, each a part of what it says.

        keys: those that are asked about.
        """
        makers = {
            "not": self._not, "if": self._if, "oneOf": self._one_of,
            "contains": self._contains, "uniqueItems": self._unique,
            "unevaluatedProperties": self._closed, "unevaluatedItems": self._closed,
        }  # fmt: skip
        done: set[str] = set()
        for key, make in makers.items():
            if key in schema and key in keys and key not in done:
                try:
                    found = make(schema)
                except NotNegatableError:
                    found = None
                if found is not None:
                    done.update(found.keys)
                    yield found

    def _not(self, schema: Mapping[str, Any]) -> Rewrite:
        return Rewrite(("not",), self._negation.of(schema["not"], atoms_of(schema)))

    def _if(self, schema: Mapping[str, Any]) -> Rewrite:
        condition = schema["if"]
        then = all_of([condition, schema.get("then", True)])
        other = all_of([self._negation.of(condition), schema.get("else", True)])
        return Rewrite(("if", "then", "else"), any_of([then, other]))

    def _one_of(self, schema: Mapping[str, Any]) -> Rewrite:
        """Let each case exclude the others that it may overlap with."""
        cases = schema["oneOf"]
        if all_apart(cases, self._document):
            return Rewrite(("oneOf",), {"anyOf": cases})
        exclusive = []
        for number, case in enumerate(cases):
            others = [
                self._negation.of(other, self._atoms(case))
                for place, other in enumerate(cases)
                if place != number and not all_apart([case, other], self._document)
            ]
            exclusive.append(all_of([case, *others]))
        return Rewrite(("oneOf",), any_of(exclusive))

    def _atoms(self, schema: Any) -> frozenset[str]:
        if isinstance(schema, dict) and "$ref" in schema:
            schema = self._document.resolve(str(schema["$ref"]))
        return atoms_of(schema) if isinstance(schema, dict) else ATOMS

    def _closed(self, schema: Mapping[str, Any]) -> Rewrite:
        """Close the schema in every case of what is evaluated."""
        keys = tuple(key for key in _UNEVALUATED if key in schema)
        properties, items = (schema.get(key, True) for key in _UNEVALUATED)
        cases = self._unevaluated.cases(schema, is_outer=True)
        return Rewrite(keys, any_of(c.closed(properties, items, self._document) for c in cases))

    def _unique(self, schema: Mapping[str, Any]) -> Rewrite | None:
        """List all lists without repetition of few values."""
        values = self._items(schema)
        if values is None or schema.keys() & {"prefixItems", "contains", "additionalItems"}:
            return None
        least = schema.get("minItems", 0)
        most = min(schema.get("maxItems", len(values)), len(values))
        lists: list[list[Any]] = []
        for count in range(least, most + 1):
            for one in permutations(values, count):
                lists.append(list(one))
                if len(lists) > _MOST_LISTS or not self._document.may_go_on():
                    return None
        keys = tuple(k for k in ("uniqueItems", "items", "minItems", "maxItems") if k in schema)
        return Rewrite(keys, any_of([{"type": _NOT_ARRAYS}, {"enum": lists} if lists else False]))

    def _items(self, schema: Mapping[str, Any]) -> list[Any] | None:
        """Return the different values that items may have, None where they are not listed."""
        items = schema.get("items")
        if isinstance(items, dict) and "$ref" in items:
            items = self._document.resolve(str(items["$ref"]))
        if not isinstance(items, dict):
            return None
        values = values_of(items)
        if values is None and items.get("type") == "boolean":
            values = [True, False]
        if values is None or not items.keys() <= _LISTING:
            return None
        typed = {key: items[key] for key in ("type",) if key in items}
        fitting = [v for v in values if not are_apart({"enum": [v]}, typed, self._document)]
        return list({canonical(one): one for one in fitting}.values())

    def _contains(self, schema: Mapping[str, Any]) -> Rewrite | None:
        """Let the item that is looked for stand at one of the places that there are."""
        most = schema.get("maxItems")
        if not isinstance(most, int) or most > _MOST_PLACES or "maxContains" in schema:
            return None
        if schema.get("minContains", 1) != 1 or "unevaluatedItems" in schema:
            return None
        places = [self._document.with_item(place, schema["contains"]) for place in range(most)]
        keys = tuple(key for key in ("contains", "minContains") if key in schema)
        return Rewrite(keys, any_of([{"type": _NOT_ARRAYS}, *places]))
