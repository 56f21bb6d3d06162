"""Answers of a guaranteed form: JSON, a JSON schema, a regular expression, a grammar.

llguidance decides which tokens may follow (the extra `grammar`); the sampler draws among those.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tonnage.core.errors import RequestError
from tonnage.core.sampling import Constraint
from tonnage.server.generation.engine import ServedEngine
from tonnage.server.generation.tool_calls import CLOSE, OPEN
from tonnage.server.generation.tool_use import ToolUse
from tonnage.server.http.failures import HttpError
from tonnage.server.openai.schema import ResponseFormat
from tonnage.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

MakeConstraint = Callable[[], Constraint]
_ANY_OBJECT = '{"type": "object"}'
_MAX_SCHEMA_BYTES = 65_536
# A small model that may write spaces anywhere writes little else.
_ONE_SPACE: "JsonCompileOptions" = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}


class _Vocabulary:
    """A tokenizer as llguidance wants it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.eos_token_id = min(tokenizer.eos_ids)
        self.bos_token_id = tokenizer.bos_id
        self.tokens = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
        self.special_token_ids = [i for i in range(tokenizer.vocab_size) if tokenizer.is_control(i)]
        self._tokenizer = tokenizer

    def __call__(self, text: bytes | str) -> list[int]:
        words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return self._tokenizer.encode(words, add_special=False, parse_special=False)


class GrammarConstraint:
    """Allows what keeps an answer within its grammar; one answer's own."""

    def __init__(self, matcher: "LLMatcher") -> None:
        """Take a fresh matcher."""
        self._matcher = matcher

    def mask(self) -> bytes:
        """Return the tokens that may come next: token i is bit i % 8 of byte i / 8.

        Raises RequestError when the form outgrows the matcher's bounds: it would let the answer end
        there, as if it were whole.
        """
        mask = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            # Behind the first line stand tokens of the answer.
            reason = self._matcher.get_error().partition("\n")[0][:200]
            raise RequestError(f"The form of the answer is too much to keep to ({reason}).")
        return mask

    def accept(self, token_id: int) -> None:
        """Take the token that was drawn."""
        self._matcher.consume_token(token_id)


class StructuredOutput:
    """Makes constraints for one model; what it needs is built with the first of them."""

    def __init__(self, engine: ServedEngine, *, enabled: bool) -> None:
        """Take the engine of the model. enabled: whether memory was planned for the tables."""
        self._enabled = enabled
        self._engine = engine
        self._native: LLTokenizer | None = None

    def of_format(self, form: ResponseFormat | None) -> MakeConstraint | None:
        """Return the constraint of a response_format, None where text is free.

        Raises HttpError 400 for a form that is broken, too large, or cannot be forced here.
        """
        if form is None or form.type == "text":
            return None
        guide = self._guide()
        match form.type:
            case "json_object":
                grammar = guide.grammar_from_json_schema(_ANY_OBJECT, _ONE_SPACE)
            case "json_schema":
                schema = b"" if form.json_schema is None else bytes(form.json_schema.schema)
                grammar = _schema_grammar(guide, schema)
            case "regex":
                grammar = guide.grammar_from_regex(_required(form.regex, "regex"))
            case "grammar":
                grammar = guide.grammar_from_lark(_required(form.grammar, "grammar"))
        return self._maker(guide, grammar)

    def of_request(self, use: ToolUse, form: ResponseFormat | None) -> MakeConstraint | None:
        """Return the constraint of a completion: a call where one is required, else its form.

        Raises HttpError 400 as `of_tools` and `of_format` do.
        """
        return self.of_tools(use.tools, use.name) if use.is_required else self.of_format(form)

    def of_tools(self, tools: Sequence[Mapping[str, Any]], name: str | None) -> MakeConstraint:
        """Return the constraint of an answer that is one call: of `name`, or of any tool.

        Raises HttpError 400 for a name that is none of theirs, or a broken schema.
        """
        chosen = [tool["function"] for tool in tools if name in (None, tool["function"]["name"])]
        if not chosen:
            raise HttpError(400, f"tool_choice names {name!r}, no tool.", param="tool_choice")
        calls = [
            {
                "type": "object",
                "properties": {
                    "name": {"const": function["name"]},
                    "arguments": function["parameters"],
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
            for function in chosen
        ]
        encoded = msgspec.json.encode({"anyOf": calls, "x-guidance": _ONE_SPACE})
        _require_short(encoded, "tools")
        schema = encoded.decode()
        guide = self._guide()
        lark = f'start: "{OPEN}\\n" call "\\n{CLOSE}"\ncall: %json {schema}\n'
        return self._maker(guide, guide.grammar_from_lark(lark))

    def _maker(self, guide: "type[LLMatcher]", grammar: str) -> MakeConstraint:
        tokenizer = self._tables()
        wrong = guide.validate_grammar(grammar, tokenizer)
        if wrong and not wrong.startswith("WARNING"):
            raise HttpError(
                400, f"The form of the answer is not understood: {wrong[:300]}", param="form"
            )
        first: list[LLMatcher] = []

        def make() -> GrammarConstraint:
            # A large schema takes mebibytes compiled, and a copy of it some kibibytes.
            if not first:
                first.append(guide(tokenizer, grammar, log_level=0))
            return GrammarConstraint(first[0].deep_copy())

        return make

    def _guide(self) -> "type[LLMatcher]":
        if not self._enabled:
            raise HttpError(
                400,
                "This server was started without --structured-output, so no answer can be bound to "
                "a form.",
                code="unsupported_parameter",
            )
        from llguidance import LLMatcher

        return LLMatcher

    def _tables(self) -> "LLTokenizer":
        if self._native is None:
            engine = self._engine
            if not engine.tokenizer.eos_ids:
                raise HttpError(400, "The model has no end token, so no form can be forced.")
            before = engine.outside_bytes()
            self._native = _tables_of(engine.tokenizer)
            engine.note_structured_output(max(0, engine.outside_bytes() - before))
        return self._native


def _tables_of(tokenizer: Tokenizer) -> "LLTokenizer":
    """Return llguidance's own tables of a vocabulary."""
    from llguidance import LLTokenizer, TokenizerWrapper

    vocabulary = _Vocabulary(tokenizer)
    wrapped = TokenizerWrapper(vocabulary)
    native = LLTokenizer(wrapped, tokenizer.vocab_size, eos_token=sorted(tokenizer.eos_ids))
    # Its own tables hold them now.
    wrapped.tokens = vocabulary.tokens = []
    return native


def _required(text: str | None, name: str) -> str:
    if not text:
        raise HttpError(400, f"response_format of type {name} needs {name}.", param=name)
    return text


def _require_short(schema: bytes, param: str) -> None:
    if len(schema) > _MAX_SCHEMA_BYTES:
        sentence = f"The schema has {len(schema):,} bytes; at most {_MAX_SCHEMA_BYTES:,} are taken."
        raise HttpError(400, sentence, param=param)


def _schema_grammar(guide: "type[LLMatcher]", schema: bytes) -> str:
    if schema in (b"", b"null"):
        raise HttpError(400, "response_format needs json_schema.schema.", param="response_format")
    _require_short(schema, "response_format")
    try:
        return guide.grammar_from_json_schema(schema.decode(), _ONE_SPACE)
    except ValueError as error:
        raise HttpError(
            400, f"The schema is not understood: {str(error)[:300]}", param="response_format"
        ) from None
