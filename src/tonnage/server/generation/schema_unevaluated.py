"""What `unevaluatedProperties` and `unevaluatedItems` are about, case by case.

Which members count as evaluated depends on which subschemas a value fits (JSON Schema core 2020-12,
11). A case is a set of them: what a value has to fit, and what is evaluated then. More that fits
evaluates more, so it is enough that one case holds.
"""

from collections.abc import Iterable, Mapping
from itertools import combinations, product
from typing import Any

from tonnage.core.record import record
from tonnage.server.generation.schema_document import Document
from tonnage.server.generation.schema_negation import Negation, NotNegatableError, all_of

_MOST_CASES = 32
# They evaluate what they apply to in ways of their own, or what they name is not known here.
_OPAQUE = frozenset(["$dynamicRef", "$recursiveRef", "contains"])
_ALL_PROPERTIES = frozenset(["additionalProperties", "unevaluatedProperties"])


@record
class Case:
    """A value that fits all of `guards` has these members evaluated.

    names, patterns: of properties. num_items: at the beginning. has_all_properties, has_all_items:
    there is none that is not.
    """

    guards: tuple[Any, ...] = ()
    names: frozenset[str] = frozenset()
    patterns: frozenset[str] = frozenset()
    num_items: int = 0
    has_all_properties: bool = False
    has_all_items: bool = False

    def closed(self, properties: Any, items: Any, document: Document) -> Any:
        """Return the schema of values of this case, all else of which fits what is given."""
        parts = list(self.guards)
        if properties is not True and not self.has_all_properties:
            shut: dict[str, Any] = {"properties": dict.fromkeys(sorted(self.names), True)}
            if self.patterns:
                shut["patternProperties"] = dict.fromkeys(sorted(self.patterns), True)
            parts.append({**shut, "additionalProperties": properties})
        if items is not True and not self.has_all_items:
            parts.append(document.with_rest(self.num_items, items))
        return all_of(parts)


class Unevaluated:
    """Finds the cases of a document's schemas."""

    def __init__(self, document: Document, negation: Negation) -> None:
        """Take the document, and what negates its schemas."""
        self._document = document
        self._negation = negation

    def cases(self, schema: Any, *, is_outer: bool = False) -> list[Case]:
        """Return the cases of a schema. Raises NotNegatableError where they cannot be told.

        is_outer: its own keywords of what is not evaluated are those that are asked for.
        """
        if not self._document.may_go_on():
            raise NotNegatableError
        if not isinstance(schema, dict):
            return [Case()]
        if schema.keys() & _OPAQUE:
            raise NotNegatableError
        found = [self._own(schema, is_outer=is_outer)]
        for others in self._applied(schema):
            found = [_joined(pair) for pair in product(found, others)]
            if len(found) > _MOST_CASES:
                raise NotNegatableError
        return found

    def _own(self, schema: Mapping[str, Any], *, is_outer: bool) -> Case:
        items = schema.get("items")
        firsts = items if isinstance(items, list) else schema.get("prefixItems", ())
        asked = {"unevaluatedProperties", "unevaluatedItems"} if is_outer else set()
        keys = schema.keys() - asked
        return Case(
            names=frozenset(schema.get("properties", ())),
            patterns=frozenset(schema.get("patternProperties", ())),
            num_items=len(firsts),
            has_all_properties=bool(keys & _ALL_PROPERTIES),
            has_all_items="unevaluatedItems" in keys
            or isinstance(items, dict | bool)
            or (isinstance(items, list) and "additionalItems" in keys),
        )

    def _applied(self, schema: Mapping[str, Any]) -> Iterable[list[Case]]:
        """Yield the cases of each subschema that applies to the same value."""
        if "$ref" in schema:
            target = self._document.resolve(str(schema["$ref"]))
            if target is None:
                raise NotNegatableError
            yield self.cases(target)
        for one in schema.get("allOf", ()):
            yield self.cases(one)
        if "anyOf" in schema:
            yield self._some(schema["anyOf"])
        if "oneOf" in schema:
            yield [case for one in schema["oneOf"] for case in self._where(one, one)]
        if "if" in schema:
            condition = schema["if"]
            opposite = self._negation.of(condition)
            both = {"allOf": [condition, schema.get("then", True)]}
            fits = self._where(condition, both)
            yield [*fits, *self._where(opposite, schema.get("else", True))]
        for name, one in schema.get("dependentSchemas", {}).items():
            has, lacks = {"required": [name]}, {"properties": {name: False}}
            yield [*self._where(has, one), Case((lacks,))]

    def _where(self, guard: Any, schema: Any) -> list[Case]:
        """Return the cases of a schema for values that fit another one."""
        return [_joined((Case((guard,)), case)) for case in self.cases(schema)]

    def _some(self, schemas: list[Any]) -> list[Case]:
        """Return the cases of at least one of several."""
        each = [self._where(one, one) for one in schemas]
        if 2 ** len(each) > _MOST_CASES:
            raise NotNegatableError
        return [
            _joined(cases)
            for count in range(1, len(each) + 1)
            for chosen in combinations(each, count)
            for cases in product(*chosen)
        ]


def _joined(cases: Iterable[Case]) -> Case:
    """Return the case in which all of several hold."""
    whole = Case()
    for one in cases:
        whole = Case(
            (*whole.guards, *one.guards),
            whole.names | one.names,
            whole.patterns | one.patterns,
            max(whole.num_items, one.num_items),
            whole.has_all_properties or one.has_all_properties,
            whole.has_all_items or one.has_all_items,
        )
    return whole
