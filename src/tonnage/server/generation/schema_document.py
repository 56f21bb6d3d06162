"""A JSON schema as a document: what its references name, and how much work it may cause."""

from typing import Any
from urllib.parse import unquote

# Comparisons, negations, listed values and rewritten schemas, together: what they are made of takes
# some 300 bytes each. A few levels of `oneOf` can ask for more.
_MAX_STEPS = 10_000


class Document:
    """A whole schema; a bound on steps, so that nothing is thought about for long."""

    def __init__(self, root: Any) -> None:
        """root: the schema as the client sent it.

        has_bases: a schema inside may have a base of its own. has_lone_references: by the dialect,
        nothing beside `$ref` counts.
        """
        self._root = root
        self._steps_left = _MAX_STEPS
        dialect = str(root.get("$schema")) if isinstance(root, dict) else ""
        self._is_old = "draft-0" in dialect or "draft/2019" in dialect
        self.has_lone_references = "draft-0" in dialect
        names = ("$id", "id") if "draft-0" in dialect else ("$id",)
        self.has_bases = any(_has_base(one, names) for one in _members(root))

    def may_go_on(self) -> bool:
        """Take a step; return whether it may be taken."""
        self._steps_left -= 1
        return self._steps_left > 0

    def resolve(self, reference: str) -> Any:
        """Return the schema that a reference names, None where that is not known here."""
        if self.has_bases or not reference.startswith("#"):
            return None
        found = self._root
        for part in unquote(reference[1:]).split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, dict) and name in found:
                found = found[name]
            else:
                return None
        is_pointer = reference == "#" or reference.startswith("#/")
        return found if is_pointer and isinstance(found, dict | bool) else None

    def with_item(self, place: int, item: Any) -> dict[str, Any]:
        """Return the schema of arrays that have a given item at a place, counted from 0."""
        key = "items" if self._is_old else "prefixItems"
        return {"type": "array", key: [True] * place + [item], "minItems": place + 1}

    def with_rest(self, num_firsts: int, rest: Any) -> dict[str, Any]:
        """Return the schema of arrays whose items behind the first ones fit `rest`."""
        if num_firsts == 0:
            return {"items": rest}
        firsts = [True] * num_firsts
        if self._is_old:
            return {"items": firsts, "additionalItems": rest}
        return {"prefixItems": firsts, "items": rest}

    def num_anchors(self, name: str) -> int:
        """Return how many schemas have the dynamic anchor `name`."""
        whole = [self._root, *_members(self._root)]
        return sum(isinstance(one, dict) and one.get("$dynamicAnchor") == name for one in whole)

    @property
    def has_recursive_anchors(self) -> bool:
        """Whether any schema is a `$recursiveAnchor`."""
        whole = [self._root, *_members(self._root)]
        return any(isinstance(one, dict) and "$recursiveAnchor" in one for one in whole)


def _members(value: Any) -> Any:
    """Yield all values inside of one."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for one in inner:
        yield one
        yield from _members(one)


def _has_base(value: Any, names: tuple[str, ...]) -> bool:
    """Whether references inside of a schema may mean something else than in the document."""
    return isinstance(value, dict) and any(isinstance(value.get(name), str) for name in names)
