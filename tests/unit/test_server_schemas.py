"""Schemas that clients send: what is accepted is obeyed, what is refused names the place."""

import contextlib
import json
import re
import time

import pytest
from llguidance import LLMatcher

from support.bound_samples import GRAMMARS, NATIVE, samples
from tonnage.server.generation.grammars import Form
from tonnage.server.generation.json_schema import bindable, children
from tonnage.server.generation.tool_use import ToolChoice, tool_use
from tonnage.server.http.failures import HttpError
from tonnage.server.openai.schema import Function, NamedFunction, ToolChoiceObject
from tonnage.server.openai.tool_choice import choice_of

jsonschema_rs = pytest.importorskip("jsonschema_rs")  # schemathesis brings it


def closed(**properties: object) -> dict[str, object]:
    """Return an object that has all of these properties and no others."""
    names = list(properties)
    fixed = {"required": names, "additionalProperties": False}
    return {"type": "object", "properties": properties, **fixed}


FLAG = {"type": "boolean"}
DECIMAL = r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"
EMAIL = (
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+"
    r"[A-Za-z]{2,}$"
)
SHORT = {"type": "string", "maxLength": 5}
OBEYED = {
    "a record of zod 4": {
        "type": "object", "propertyNames": {"type": "string"}, "additionalProperties": FLAG,
    },
    "names by a pattern": {
        "type": "object", "propertyNames": {"pattern": "^[a-z]{1,3}$"},
        "additionalProperties": FLAG, "minProperties": 1, "maxProperties": 1,
    },
    "names by a list": {
        "type": "object", "propertyNames": {"enum": ["a", "b"]}, "additionalProperties": FLAG,
    },
    "unevaluated without applicators": {**closed(a=FLAG), "unevaluatedProperties": False},
    "items not evaluated": {
        "type": "array", "prefixItems": [FLAG], "unevaluatedItems": False, "minItems": 1,
    },
    "not beside enum": closed(a={"enum": ["x", "y", 1, True], "not": {"enum": ["x", 1]}}),
    "dependentRequired": {
        "type": "object", "properties": {"a": FLAG, "b": FLAG}, "additionalProperties": False,
        "dependentRequired": {"a": ["b"]},
    },
    "dependentSchemas": {
        "type": "object", "properties": {"a": FLAG, "b": FLAG}, "additionalProperties": False,
        "dependentSchemas": {"a": {"required": ["b"]}},
    },
    "one of two properties": {
        "type": "object", "properties": {"a": FLAG, "b": FLAG, "c": FLAG},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}], "additionalProperties": False,
    },
    "not a type": {"not": {"type": ["object", "array", "number"]}, "maxLength": 4},
    "not a text": closed(a={"type": "string", "not": {"enum": ["x.", "y\n", "a|b"]},
        "maxLength": 3}),
    "not a number": closed(a={"type": "integer", "not": {"enum": [5, 7]}, "minimum": 4,
        "maximum": 9}),
    "not a pattern": closed(a={"type": "string", "not": {"pattern": "^a|b$"}, "maxLength": 3}),
    "not a length": closed(a={"type": "string", "not": {"minLength": 3}}),
    "not a range": {"type": "number", "not": {"minimum": 0, "exclusiveMaximum": 1}},
    "not both": {
        "type": "object", "properties": {"a": FLAG, "b": FLAG}, "additionalProperties": False,
        "not": {"required": ["a", "b"]},
    },
    "not a property's value": {
        "type": "object", "properties": {"a": {"enum": ["x", "y", 1]}}, "required": ["a"],
        "additionalProperties": False, "not": {"properties": {"a": {"const": "x"}}},
    },
    "not what a pointer names": {
        "$defs": {"T": {"enum": ["x", None]}}, "enum": ["x", "y", None],
            "not": {"$ref": "#/$defs/T"},
    },
    "if a property has a value": {
        "type": "object",
        "properties": {"kind": {"enum": ["circle", "square"]}, "r": FLAG, "w": FLAG},
        "required": ["kind"], "additionalProperties": False,
        "if": {"properties": {"kind": {"const": "circle"}}, "required": ["kind"]},
        "then": {"required": ["r"], "properties": {"w": False}},
        "else": {"required": ["w"], "properties": {"r": False}},
    },
    "if with then alone": {
        "type": "object", "properties": {"a": FLAG, "b": FLAG}, "additionalProperties": False,
        "if": {"required": ["a"]}, "then": {"required": ["b"]},
    },
    "if within if": closed(a={
        "type": "integer", "minimum": 0, "maximum": 99, "if": {"minimum": 50},
        "then": {"if": {"maximum": 60}, "then": {"multipleOf": 5}, "else": {"multipleOf": 7}},
    }),
    "oneOf by a discriminator": {"oneOf": [
        closed(kind={"const": "a"}, x=FLAG), closed(kind={"enum": ["b", "c"]}, x={"type": "null"}),
        closed(kind={"const": 1}),
    ]},
    "oneOf by types": closed(a={"oneOf": [
        {"type": "string", "maxLength": 2}, {"type": ["integer", "null"]}, {"type": "array",
            "maxItems": 0},
    ]}),
    "oneOf by lengths and ranges": closed(a={"oneOf": [
        {"type": "string", "maxLength": 2}, {"type": "string", "minLength": 4, "maxLength": 5},
        {"type": "number", "maximum": 3}, {"type": "number", "exclusiveMinimum": 3, "maximum": 9},
    ]}),
    "oneOf whose cases overlap": closed(a={"type": "integer", "oneOf": [{"minimum": 1},
        {"maximum": 5}]}),
    "oneOf of ranges that overlap, each with its type": closed(a={"oneOf": [
        {"type": "integer", "minimum": 0, "maximum": 10},
        {"type": "integer", "minimum": 5, "maximum": 15},
    ]}),
    "oneOf of pointers to the same type": {
        "$defs": {"A": {"type": "integer", "maximum": 3, "minimum": -3}},
        **closed(a={"oneOf": [
            {"$ref": "#/$defs/A"}, {"type": "integer", "minimum": 2, "maximum": 5},
        ]}),
    },
    "not beside a type": closed(a={
        "type": "integer", "minimum": 0, "maximum": 9,
        "not": {"type": "integer", "minimum": 2, "maximum": 7},
    }),
    "oneOf of presence": {
        "type": "object", "properties": {"a": FLAG, "b": FLAG, "c": FLAG},
        "additionalProperties": False, "oneOf": [{"required": ["a", "b"]}, {"required": ["c"]}],
    },
    "oneOf by pointers": {
        "$defs": {"A": closed(kind={"const": "a"}), "B": closed(kind={"const": "b"})},
        "oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}],
    },
    "contains among few": {
        "type": "array", "items": {"enum": [1, 2, 3]}, "contains": {"const": 2}, "maxItems": 3,
    },
    "a set of few values": {
        "type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "minItems": 1,
    },
    "a set by a pointer": {
        "$defs": {"Color": {"title": "Color", "type": "string", "enum": ["red", "blue", 5]}},
        "type": "array", "items": {"$ref": "#/$defs/Color"}, "uniqueItems": True,
    },
    "a set of flags": {"type": "array", "items": FLAG, "uniqueItems": True},
    "names by their length": {
        "type": "object", "propertyNames": {"maxLength": 2}, "additionalProperties": FLAG,
        "minProperties": 1, "maxProperties": 1,
    },
    "a dynamic reference to one thing": {
        "$defs": {"x": {"$dynamicAnchor": "here", **FLAG}}, **closed(a={"$dynamicRef": "#here"}),
    },
    "unevaluated beside allOf": {
        "type": "object", "allOf": [{"properties": {"a": FLAG}}, {"$ref": "#/$defs/B"}],
        "properties": {"c": FLAG}, "unevaluatedProperties": False,
        "$defs": {"B": {"properties": {"b": FLAG}}},
    },
    "unevaluated beside anyOf": {
        "type": "object", "anyOf": [
            {"properties": {"a": FLAG}, "required": ["a"]},
            {"properties": {"b": FLAG}, "required": ["b"]},
        ], "unevaluatedProperties": False,
    },
    "unevaluated beside if": {
        "type": "object", "properties": {"kind": {"enum": ["a", "b"]}}, "required": ["kind"],
        "if": {"properties": {"kind": {"const": "a"}}}, "then": {"properties": {"x": FLAG}},
        "else": {"properties": {"y": FLAG}}, "unevaluatedProperties": False,
    },
    "contains anything": {"type": "array", "items": FLAG, "contains": {}, "maxItems": 3},
    "contains at least none": {
        "type": "array", "items": FLAG, "contains": {"const": 5}, "minContains": 0, "maxItems": 2,
    },
    "uniqueItems of one": {"type": "array", "items": FLAG, "uniqueItems": True, "maxItems": 1},
    "counts as floats": {"type": "string", "minLength": 1.0, "maxLength": 3.0},
    "no keyword speaks alone": {**closed(a=FLAG), "then": {}, "minContains": 3, "not": False},
    "a dialect that nobody knows": {"$schema": "https://example.org/own", **closed(a=FLAG)},
    "leniency asked for by a client": {"x-guidance": {"lenient": True}, **closed(a=FLAG)},
    "pointers": {
        "$defs": {"a/b": {"$ref": "#/$defs/c"}, "c": FLAG, "unused": {"not": {}, "if": {}}},
        **closed(a={"$ref": "#/$defs/a~1b"}),
    },
    "anchors": {"$defs": {"x": {"$anchor": "here", **FLAG}}, **closed(a={"$ref": "#here"})},
    "pydantic's tree": {
        "$defs": {
            "Node": {
                **closed(left={"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}),
                "title": "Node", "description": "A node.",
            },
        },
        "$ref": "#/$defs/Node",
    },
    **{
        f"format {name}": closed(a={**SHORT, "format": name})
        for name in ("byte", "decimal", "uri-reference", "idn-email", "json-pointer", "x-own")
    },
    "pydantic's Decimal": closed(
        a={"anyOf": [{"type": "number"}, {"type": "string", "pattern": DECIMAL, "maxLength": 9}]}
    ),
    "zod's email": closed(a={"type": "string", "pattern": EMAIL, "maxLength": 30}),
    "a password": closed(
        a={"type": "string", "pattern": r"^(?=.*[A-Z])(?=.*\d)[A-Za-z\d]{3,8}$"}
    ),
    "a word": closed(a={"type": "string", "pattern": r"\bfoo\b", "maxLength": 8}),
    "names that are not private": {
        "type": "object", "patternProperties": {"^(?!_)[a-z_]{1,4}$": FLAG},
        "additionalProperties": False, "maxProperties": 1,
    },
    "format date": closed(a={"type": "string", "format": "date"}),
}  # fmt: skip


@pytest.mark.parametrize("name", OBEYED)
def test_what_is_accepted_is_obeyed(name):
    schema = OBEYED[name]
    judge = {key: value for key, value in schema.items() if key != "$schema"}
    found = list(samples(schema, 20))
    assert any(found)
    for text in filter(None, found):
        assert jsonschema_rs.is_valid(judge, json.loads(text)), text


EVEN = {"multipleOf": 2}  # what is not so cannot be said
REFUSED = {
    "not": ({"not": EVEN}, "'not' at #"),
    "if": (closed(a={"if": EVEN, "then": FLAG}), "'if' at #/properties/a"),
    "contains": (closed(a={"contains": {"const": 1}}), "'contains' at #/properties/a"),
    "uniqueItems": ({"anyOf": [FLAG, {"uniqueItems": True}]}, "'uniqueItems' at #/anyOf/1"),
    "a large set": (
        closed(a={"type": "array", "uniqueItems": True, "items": {"enum": list(range(9))}}),
        "'uniqueItems' at #/properties/a",
    ),
    "a name with a slash": (closed(**{"a/b~": {"not": EVEN}}), "#/properties/a~1b~0"),
    "in a definition": (
        {"$defs": {"x": {"not": EVEN}}, **closed(a={"$ref": "#/$defs/x"})},
        "'not' at #/$defs/x",
    ),
    "oneOf that may overlap": (
        closed(a={"oneOf": [EVEN, {"multipleOf": 3}]}),
        "'oneOf' at #/properties/a ",
    ),
    "many digits": (closed(a={"multipleOf": 1e300}), "'multipleOf' at #/properties/a (1e+300)"),
    "no pattern": (closed(a={"items": {"pattern": "(["}}), "'pattern' at #/properties/a/items"),
    "patterns that overlap": (
        {"patternProperties": {"^a": FLAG, "b$": {"type": "null"}}}, "'patternProperties' at #",
    ),
    "how many of those that may be left out": (
        {"type": "object", "properties": {"a": FLAG, "b": FLAG}, "minProperties": 1},
        "'minProperties' at # (1)",
    ),
    "nothing is left": (
        closed(a={"type": "integer", "minimum": 5, "maximum": 2}),
        "'minimum' at #/properties/a (5) leaves nothing",
    ),
    "unevaluated beside what is not known": (
        {"if": {"patternProperties": {"a": FLAG}}, "unevaluatedProperties": False},
        "'unevaluatedProperties' at #",
    ),
    "a pattern that looks ahead within": (closed(a={"pattern": "(a(?=b)|c)*"}), "'pattern'"),
    "false": (False, "nothing satisfies it"),
    "no schema": (closed(a=5), "#/properties/a is no schema"),
    "a type that is none": ({"type": "nonsense"}, "nonsense"),
    "a reference into nothing": ({"$ref": "#/$defs/x"}, "x"),
    "a reference elsewhere": ({"$ref": "https://example.org/s"}, "example.org"),
    "wrong values": ({"contains": {}, "minItems": "x"}, "wrong type"),
    "very long": ({"enum": ["x" * 70_000]}, "at most 65,536"),
}  # fmt: skip


LIBRARY = re.compile(r"coerce|supported|Unsatisfiable|Invalid|Expected|lark|llguidance|too many")


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_place(name):
    schema, words = REFUSED[name]
    with pytest.raises(HttpError) as caught:
        next(samples(schema, 1))
    assert caught.value.status == 400
    assert words in caught.value.sentence
    assert not LIBRARY.search(caught.value.sentence)


def exclusive(depth: int) -> dict[str, object]:
    """Return cases that overlap, within cases that do."""
    inner = exclusive(depth - 1) if depth else {"minimum": 1}
    return {"oneOf": [{"maximum": depth}, inner, {"type": "number", "minimum": -depth}]}


@pytest.mark.parametrize(
    "schema",
    [
        exclusive(12),
        {"oneOf": [{"anyOf": [{"pattern": f"{n}{m}"} for m in range(9)]} for n in range(40)]},
        {"allOf": [{"if": {"required": [f"{n}"]}, "then": {"required": ["a"]}} for n in range(40)]},
        {
            "properties": {
                f"{n}": {
                    "type": "array",
                    "uniqueItems": True,
                    "items": {"enum": ["a", "b", "c", "d", "e"]},
                }
                for n in range(300)
            }
        },
        {
            "unevaluatedProperties": False,
            "allOf": [{"anyOf": [{"properties": {f"{n}": FLAG}}, FLAG]} for n in range(40)],
        },
        {"not": {"anyOf": [{"not": {"properties": {f"{n}": FLAG}}} for n in range(300)]}},
    ],
)
def test_no_schema_is_thought_about_for_long(schema):
    begun = time.process_time()
    with contextlib.suppress(HttpError, ValueError):
        next(samples(schema, 1))
    assert time.process_time() - begun < 10


def test_the_order_of_an_answer_is_that_of_the_schema():
    plain, unbound = bindable({"title": "T", **closed(b=FLAG, a=FLAG)})
    assert (list(plain["properties"]), unbound) == (["b", "a"], [])


def test_every_schema_inside_has_its_pointer():
    schema = {"allOf": [{"items": FLAG}], "properties": {"a/b": {"not": {}}}, "$defs": {"d": True}}
    assert [pointer for pointer, _ in children(schema)] == [
        "/$defs/d", "/allOf/0", "/properties/a~1b",
    ]  # fmt: skip
    assert list(children(schema["allOf"][0])) == [("/items", FLAG)]


def test_a_fault_is_found_among_many():
    many = {f"d{n}": closed(**{f"p{m}": SHORT for m in range(8)}) for n in range(90)}
    many["z"] = closed(x={"items": {"pattern": "(["}})
    whole = {"$defs": many, **closed(**{name: {"$ref": f"#/$defs/{name}"} for name in many})}
    with pytest.raises(HttpError, match=r"'pattern' at #/\$defs/z/properties/x/items"):
        next(samples(whole, 1))


CITY = {"$defs": {"T": {"enum": ["Rome"]}}, **closed(city={"$ref": "#/$defs/T"})}
SIZE = {"$defs": {"T": {"enum": [7]}}, **closed(size={"$ref": "#/$defs/T"})}
ITSELF = {"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": False}


def calls(
    *functions: Function, names: list[str] | None = None, is_parallel: bool | None = None
) -> str:
    use = tool_use(functions, ToolChoice("required", names), is_parallel=is_parallel)
    return GRAMMARS.of_calls(use)


def allows(grammar: str, text: str) -> bool:
    """Whether `text` is what a grammar allows, to its end."""
    matcher = LLMatcher(NATIVE, grammar, log_level=0)
    tokens = [byte + 1 for byte in text.encode()]
    return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()


def called(grammar: str, text: str) -> bool:
    """Whether a grammar allows a call, whose JSON is `text`."""
    return allows(grammar, f"<tool_call>\n{text}\n</tool_call>")


def test_each_tools_pointers_are_its_own():
    grammar = calls(
        Function("where", None, CITY), Function("how", None, SIZE), Function("deep", None, ITSELF)
    )
    assert called(grammar, '{"name": "where", "arguments": {"city": "Rome"}}')
    assert called(grammar, '{"name": "how", "arguments": {"size": 7}}')
    assert called(grammar, '{"name": "deep", "arguments": {"next": {"next": {}}}}')
    assert not called(grammar, '{"name": "how", "arguments": {"city": "Rome"}}')
    assert not called(grammar, '{"name": "deep", "arguments": {"next": {"name": {}}}}')
    assert not called(
        calls(Function("f"), Function("g"), names=["f"]), '{"name": "g", "arguments": {}}'
    )


def test_several_calls_may_be_required_unless_one_is_asked_for():
    one = '<tool_call>\n{"name": "how", "arguments": {"size": 7}}\n</tool_call>'
    how = Function("how", None, SIZE)
    for is_parallel, most in ((None, 3), (True, 3), (False, 1)):
        grammar = calls(how, is_parallel=is_parallel)
        for count in range(4):
            assert allows(grammar, "\n".join([one] * count)) == (0 < count <= most)
    named = choice_of(ToolChoiceObject(function=NamedFunction("how")))
    assert not allows(GRAMMARS.of_calls(tool_use([how], named)), f"{one}\n{one}")


@pytest.mark.parametrize("name", ['say "hi"', "Zürich", "a\\b", "tab\t", "\u0001", "日本"])
def test_a_name_may_be_any_text(name):
    written = json.dumps(name, ensure_ascii=False)
    assert called(calls(Function(name)), f'{{"name": {written}, "arguments": {{}}}}')


def test_a_tool_that_is_not_strict_is_bound_to_what_can_be_obeyed(caplog):
    odd = closed(a={"enum": ["x"]}, b={"type": "array", "uniqueItems": True, "items": {}})
    grammar = calls(Function("odd", None, odd))
    assert called(grammar, '{"name": "odd", "arguments": {"a": "x", "b": [true, true]}}')
    assert not called(grammar, '{"name": "odd", "arguments": {"a": "y", "b": []}}')
    assert "'uniqueItems' at #/properties/b" in caplog.text
    broken = Function("broken", None, {"type": "object", "properties": {"a": {"type": "x"}}})
    assert called(calls(broken), '{"name": "broken", "arguments": {}}')


def test_a_strict_tool_is_refused_by_name():
    odd = Function("odd", None, closed(a={"not": EVEN}), strict=True)
    with pytest.raises(HttpError, match=r"parameters of 'odd'.*'not' at #/properties/a"):
        calls(odd)


def test_beside_a_form_calls_stay_possible():
    use = tool_use([Function("where", None, CITY)])
    grammar = GRAMMARS.of_either(use, Form("schema", closed(a=FLAG), "response_format"))
    call = '{"name": "where", "arguments": {"city": "Rome"}}'
    assert called(grammar, call)
    assert called(grammar, f"{call}\n</tool_call>\n<tool_call>\n{call}")
    assert not called(grammar, '{"name": "rm", "arguments": {}}')
    assert allows(grammar, '{"a": true}')
    assert not allows(grammar, '{"a": 1}')
    assert not allows(grammar, "Hello")


@pytest.mark.parametrize(
    ("form", "right", "wrong"),
    [
        (Form("regex", "[ab]{2}", "regex"), "ab", "abc"),
        (Form("choice", ["yes", 'no "way"'], "guided_choice"), 'no "way"', "no"),
        (Form("lark", 'start: "a"+', "grammar"), "aaa", "b"),
        (Form("lark", 'root ::= "a" [0-9]+', "grammar"), "a12", "a"),
        (Form("schema", True, "guided_json"), "[1, null]", "x"),
    ],
)
def test_every_kind_of_form_binds(form, right, wrong):
    grammar = GRAMMARS.of_form(form)
    assert allows(grammar, right)
    assert not allows(grammar, wrong)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (Form("regex", "([", "guided_regex"), "guided_regex cannot bind"),
        (Form("lark", "start: nowhere", "grammar"), "grammar cannot bind"),
        (Form("lark", "root ::= (", "grammar"), "grammar cannot bind"),
        (Form("lark", "x" * 70_000, "grammar"), "at most 65,536"),
    ],
)
def test_a_form_that_is_broken_is_refused_by_its_field(form, words):
    with pytest.raises(HttpError, match=words):
        GRAMMARS.of_form(form)
