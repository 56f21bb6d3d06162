"""Schemas that clients send: what is accepted is obeyed, what is refused names the place."""

import json

import pytest
from llguidance import LLMatcher

from support.bound_samples import GRAMMARS, NATIVE, samples
from tonnage.server.generation.grammars import Form
from tonnage.server.generation.json_schema import bindable, subschemas
from tonnage.server.generation.tool_use import ToolChoice, tool_use
from tonnage.server.http.failures import HttpError
from tonnage.server.openai.schema import Function

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


REFUSED = {
    "not": ({"not": {"type": "string"}}, "'not' at #"),
    "if": (closed(a={"if": FLAG, "then": FLAG}), "'if' at #/properties/a"),
    "contains": (closed(a={"contains": {"const": 1}}), "'contains' at #/properties/a"),
    "uniqueItems": ({"anyOf": [FLAG, {"uniqueItems": True}]}, "'uniqueItems' at #/anyOf/1"),
    "a name with a slash": (closed(**{"a/b~": {"not": FLAG}}), "#/properties/a~1b~0"),
    "in a definition": (
        {"$defs": {"x": {"not": FLAG}}, **closed(a={"$ref": "#/$defs/x"})},
        "'not' at #/$defs/x",
    ),
    "oneOf that may overlap": (
        closed(a={"oneOf": [{"minimum": 1}, {"maximum": 5}]}),
        "#/properties/a",
    ),
    "unevaluated beside applicators": (
        {"anyOf": [closed(a=FLAG)], "unevaluatedProperties": False},
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


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_place(name):
    schema, words = REFUSED[name]
    with pytest.raises(HttpError) as caught:
        next(samples(schema, 1))
    assert caught.value.status == 400
    assert words in caught.value.sentence


def test_the_order_of_an_answer_is_that_of_the_schema():
    plain, unbound = bindable({"title": "T", **closed(b=FLAG, a=FLAG)})
    assert (list(plain["properties"]), unbound) == (["b", "a"], [])


def test_every_schema_inside_has_its_pointer():
    schema = {"allOf": [{"items": FLAG}], "properties": {"a/b": {"not": {}}}, "$defs": {"d": True}}
    assert [pointer for pointer, _ in subschemas(schema)] == [
        "/allOf/0/items", "/allOf/0", "/properties/a~1b/not", "/properties/a~1b", "",
    ]  # fmt: skip


CITY = {"$defs": {"T": {"enum": ["Rome"]}}, **closed(city={"$ref": "#/$defs/T"})}
SIZE = {"$defs": {"T": {"enum": [7]}}, **closed(size={"$ref": "#/$defs/T"})}
ITSELF = {"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": False}


def calls(*functions: Function, names: list[str] | None = None) -> str:
    use = tool_use(functions, ToolChoice("required", names))
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


@pytest.mark.parametrize("name", ['say "hi"', "Zürich", "a\\b", "tab\t", "\u0001", "日本"])
def test_a_name_may_be_any_text(name):
    written = json.dumps(name, ensure_ascii=False)
    assert called(calls(Function(name)), f'{{"name": {written}, "arguments": {{}}}}')


def test_a_tool_that_is_not_strict_is_bound_to_what_can_be_obeyed(caplog):
    odd = closed(a={"enum": ["x"]}, b={"type": "array", "uniqueItems": True, "items": FLAG})
    grammar = calls(Function("odd", None, odd))
    assert called(grammar, '{"name": "odd", "arguments": {"a": "x", "b": [true, true]}}')
    assert not called(grammar, '{"name": "odd", "arguments": {"a": "y", "b": []}}')
    assert "'uniqueItems' at #/properties/b" in caplog.text
    broken = Function("broken", None, {"type": "object", "properties": {"a": {"type": "x"}}})
    assert called(calls(broken), '{"name": "broken", "arguments": {}}')


def test_a_strict_tool_is_refused_by_name():
    odd = Function("odd", None, closed(a={"not": FLAG}), strict=True)
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
