"""Completions of a guaranteed form: JSON, a JSON schema, a regular expression, a grammar.

llguidance decides which tokens may follow (the extra `serve`); the sampler draws among those.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tonnage.core.errors import RequestError
from tonnage.core.sampling import Constraint
from tonnage.server.generation.engine import ServedEngine
from tonnage.server.generation.grammars import Form, Grammars
from tonnage.server.generation.tool_use import ToolUse
from tonnage.server.http.failures import HttpError
from tonnage.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MakeConstraint = Callable[[], Constraint]


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
    """Allows what keeps a completion within its grammar; it is one completion's own."""

    def __init__(self, matcher: "LLMatcher") -> None:
        """Take a fresh matcher."""
        self._matcher = matcher

    def mask(self) -> bytes:
        """Return the tokens that may come next: token i is bit i % 8 of byte i / 8.

        Raises RequestError when the form outgrows the matcher's bounds: it would let the completion
        end there, as if it were whole.
        """
        mask = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            # Behind the first line stand tokens of the completion.
            reason = self._matcher.get_error().partition("\n")[0][:200]
            raise RequestError(f"The form of the completion is too much to keep to ({reason}).")
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

    def of_form(self, form: Form | None) -> MakeConstraint | None:
        """Return the constraint of a completion, None where its text is free.

        Raises HttpError 400 for a form that is broken, too large, or cannot be obeyed here.
        """
        return None if form is None else self._maker(self._grammars().of_form(form))

    def of_request(self, use: ToolUse, form: Form | None) -> MakeConstraint | None:
        """Return the constraint of a completion that may be a call, or has to be one.

        Where calls stay possible the form binds the text alone. Errors as of `of_form`.
        """
        if use.is_required:
            return self._maker(self._grammars().of_calls(use))
        if use.callable and form is not None:
            return self._maker(self._grammars().of_either(use, form))
        return self.of_form(form)

    def _maker(self, grammar: str) -> MakeConstraint:
        guide, tokenizer = self._guide(), self._tables()
        wrong = guide.validate_grammar(grammar, tokenizer)
        if wrong and not wrong.startswith("WARNING"):
            raise HttpError(400, f"The form of the completion is not understood: {wrong[:300]}")
        first: list[LLMatcher] = []

        def make() -> GrammarConstraint:
            # A large schema takes mebibytes compiled, and a copy of it some kibibytes.
            if not first:
                first.append(guide(tokenizer, grammar, log_level=0))
            return GrammarConstraint(first[0].deep_copy())

        return make

    def _grammars(self) -> Grammars:
        return Grammars(self._guide(), self._engine.tokenizer)

    def _guide(self) -> "type[LLMatcher]":
        if not self._enabled:
            raise HttpError(
                400,
                "This server has no memory for structured output, so no completion can be bound to "
                "a form; start it with --structured-output on.",
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
    # A row without a token may end a completion, but no grammar reaches it.
    ends = [token_id for token_id in sorted(tokenizer.eos_ids) if token_id < tokenizer.vocab_size]
    native = LLTokenizer(wrapped, tokenizer.vocab_size, eos_token=ends)
    # Its own tables hold them now.
    wrapped.tokens = vocabulary.tokens = []
    return native
