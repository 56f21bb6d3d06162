"""What a request binds its completion to, as grammars of llguidance.

Every JSON schema is a document of its own in a grammar, so its pointers mean what they say.
"""

import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from tonnage.core.record import record
from tonnage.server.generation.call_formats import HERMES
from tonnage.server.generation.json_schema import Unbound, bindable, children
from tonnage.server.generation.tool_use import ToolUse
from tonnage.server.http.failures import HttpError
from tonnage.server.observe.log import log
from tonnage.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher

_MAX_BYTES = 65_536
_MAX_LOCATED = 512  # schemas that are tried to find the one at fault
_MAX_SHOWN = 60
# They are blamed last: with them most of a schema goes.
_SHAPES = ("type", "properties", "required", "items", "prefixItems", "$defs", "definitions")
# Which tokens a text is made of is the model's own choice, not that of a canonical spelling.
_AS_IT_LIKES = '%llguidance {"no_forcing": true}\n'
# A small model that may write spaces anywhere writes little else.
_ONE_SPACE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@record
class Form:
    """What a completion's text has to be.

    value: a JSON schema, a regular expression, a grammar of Lark, or a list of texts. where: the
    field of the request that says so.
    """

    kind: Literal["schema", "regex", "lark", "choice"]
    value: Any
    where: str


class Grammars:
    """Writes grammars, and refuses with the place at fault what llguidance cannot obey."""

    def __init__(self, guide: "type[LLMatcher]", tokenizer: Tokenizer) -> None:
        """guide: of llguidance. tokenizer: of the model."""
        self._guide = guide
        self._tokenizer = tokenizer

    def of_form(self, form: Form) -> str:
        """Return the grammar of a text. Raises HttpError 400 for a form that cannot be obeyed."""
        entry = self._entry(form)
        if "json_schema" not in entry:
            return _joined({"lark_grammar": _AS_IT_LIKES + entry["lark_grammar"]})
        return _joined({"lark_grammar": f"{_AS_IT_LIKES}start: @form\n"}, {**entry, "name": "form"})

    def of_calls(self, use: ToolUse) -> str:
        """Return the grammar of calls of any of the tools that may be called. Errors as above."""
        rules = f"start: call{_more(use)}\n" + self._calls(use, _literal(f"{HERMES.open}\n"))
        return _joined({"lark_grammar": _AS_IT_LIKES + rules})

    def of_either(self, use: ToolUse, form: Form) -> str:
        """Return the grammar of calls, or else of a text that has the form. Errors as above."""
        rules = f"start: @form | call{_more(use)}\n" + self._calls(use, self._own_opener())
        entry = {**self._entry(form), "name": "form"}
        return _joined({"lark_grammar": _AS_IT_LIKES + rules}, entry)

    def _own_opener(self) -> str:
        """Return the opener of a call as one that was meant begins: with the tokenizer's own token.

        Else a model whose text is masked would begin calls by chance.
        """
        opener = f"{HERMES.open}\n"
        first = self._tokenizer.encode(opener, add_special=False, parse_special=False)[0]
        text = self._tokenizer.token_bytes(first).decode("utf-8", "replace")
        if not text or not opener.startswith(text):
            return _literal(opener)
        rest = opener[len(text) :]
        return f"<[{first}]> {_literal(rest)}" if rest else f"<[{first}]>"

    def _entry(self, form: Form) -> dict[str, Any]:
        match form.kind:
            case "schema":
                return {"json_schema": self._schema(form.value, form.where)}
            case "regex":
                entry = json.loads(self._guide.grammar_from_regex(form.value))["grammars"][0]
            case "lark":
                entry = {"lark_grammar": _as_lark(form.value, form.where)}
            case "choice":
                entry = {"lark_grammar": "start: " + " | ".join(map(_literal, form.value))}
        _require_short(entry["lark_grammar"], form.where)
        wrong = self._fault(entry)
        if wrong:
            raise _refused(form.where, wrong)
        return {"lark_grammar": entry["lark_grammar"]}

    def _calls(self, use: ToolUse, opener: str) -> str:
        """Return the rule `call`: each tool's name, and its arguments by its own schema."""
        functions = [tool["function"] for tool in use.callable]
        _require_short([function["parameters"] for function in functions], "tools")
        bodies = []
        for number, function in enumerate(functions):
            head = _literal(
                f'{{"name": {json.dumps(function["name"], ensure_ascii=False)}, "arguments": '
            )
            schema = json.dumps(self._parameters(function, use.strict))
            bodies.append(f'body{number}: {head} %json {schema} "}}"\n')
        names = " | ".join(f"body{number}" for number in range(len(bodies)))
        end = _literal(f"\n{HERMES.close}")
        return f"call: {opener} ({names}) {end}\n" + "".join(bodies)

    def _parameters(self, function: Mapping[str, Any], strict: frozenset[str]) -> Any:
        """Return what binds a call; where a tool is not strict, as much of it as can be obeyed."""
        name, given = function["name"], function["parameters"]
        where = f"tools (parameters of {name[:128]!r})"
        try:
            return self._schema(given, where, need_object=True)
        except HttpError as error:
            if name in strict:
                raise
            log(logging.WARNING, f"A call is bound to less than its tool says: {error.sentence}")
        with suppress(ValueError):
            given = bindable(given)[0]
        lenient = {**given, "x-guidance": {**_ONE_SPACE, "lenient": True}}
        if self._fault({"json_schema": lenient}):
            return {"type": "object", "x-guidance": _ONE_SPACE}
        return lenient

    def _schema(self, given: Any, where: str, *, need_object: bool = False) -> Any:
        """Return a schema as llguidance takes it. Raises HttpError 400 with the place at fault."""
        _require_short(given, where)
        try:
            schema, unbound = bindable(given)
        except ValueError as error:
            raise _refused(where, str(error)) from None
        if unbound:
            raise _refused(where, " and ".join(map(str, unbound[:4])) + " cannot be obeyed")
        schema = {} if schema is True else schema
        if schema is False:
            raise _refused(where, "nothing satisfies it")
        if need_object:
            schema = {"type": "object", **schema}
        schema = {**schema, "x-guidance": _ONE_SPACE}
        wrong = self._fault({"json_schema": schema})
        if wrong:
            raise _refused(where, self._blame(given, wrong))
        return schema

    def _fault(self, entry: Mapping[str, Any]) -> str:
        """Return what llguidance says against a grammar, empty where it takes it."""
        wrong = self._guide.validate_grammar(_joined(entry), None)
        return "" if wrong.startswith("WARNING") else wrong.partition("\n")[0][:300]

    def _blame(self, given: Any, wrong: str) -> str:
        """Return our words for what llguidance says against a schema: which keyword, and where.

        It is the innermost schema that it says the same against, and the keyword there without
        which it does not.
        """
        is_empty = "nsatisfiable" in wrong
        reason = "leaves nothing that satisfies it" if is_empty else "cannot be obeyed"

        def same(schema: Any) -> bool:
            complaint = self._complaint(schema)
            return complaint == wrong or (is_empty and "nsatisfiable" in complaint)

        shared = {key: given[key] for key in ("$schema", "$defs", "definitions") if key in given}
        pointer, one, num_left = "", given, _MAX_LOCATED
        while True:
            inner = list(islice(children(one), num_left))
            num_left -= len(inner)
            dicts = (pair for pair in inner if isinstance(pair[1], dict))
            at_fault = next((pair for pair in dicts if same({**shared, **pair[1]})), None)
            if at_fault is None:
                break
            pointer, one = pointer + at_fault[0], at_fault[1]
        for key in sorted(one, key=_SHAPES.__contains__):
            if not same({**shared, **{name: one[name] for name in one if name != key}}):
                return f"{Unbound(key, pointer)}{_shown(one[key])} {reason}"
        return "nothing satisfies it" if is_empty else "it is too much to obey; make it smaller"

    def _complaint(self, given: Any) -> str:
        """Return what llguidance says against a schema as it is sent, empty for nothing."""
        try:
            plain, _ = bindable(given)
        except ValueError:
            return ""
        return self._fault({"json_schema": plain})


def _more(use: ToolUse) -> str:
    """Return what may stand behind a call in a grammar."""
    return "" if use.is_single else ' ("\\n" call)*'


def _shown(value: Any) -> str:
    """Return a value in parentheses, where it is short."""
    text = json.dumps(value, ensure_ascii=False)
    return f" ({text})" if len(text) <= _MAX_SHOWN else ""


def _as_lark(grammar: str, where: str) -> str:
    """Return a grammar in Lark; one in llama.cpp's GBNF is translated."""
    _require_short(grammar, where)
    if "::=" not in grammar:
        return grammar
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        return any_to_lark(grammar)
    except Exception as error:  # whatever the translator meets in a text that is no grammar
        raise _refused(where, f"it is no grammar of GBNF ({str(error)[:200]})") from None


def _joined(*entries: Mapping[str, Any]) -> str:
    return json.dumps({"grammars": entries})


def _literal(text: str) -> str:
    """Return a text as a literal of Lark, which has JSON's escapes."""
    return json.dumps(text, ensure_ascii=False)


def _require_short(value: Any, where: str) -> None:
    num_bytes = len(value if isinstance(value, str) else json.dumps(value))
    if num_bytes > _MAX_BYTES:
        sentence = f"{where} has {num_bytes:,} bytes; at most {_MAX_BYTES:,} are taken."
        raise HttpError(400, sentence, param=_field(where))


def _refused(where: str, reason: str) -> HttpError:
    return HttpError(400, f"{where} cannot bind a completion: {reason}.", param=_field(where))


def _field(where: str) -> str:
    return where.partition(" ")[0].partition(".")[0]
