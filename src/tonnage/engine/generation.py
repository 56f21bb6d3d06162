"""A completion while it is being made: an iterator of text, and what it came to."""

from array import array
from collections.abc import Iterator, MutableSequence, Sequence
from dataclasses import dataclass, field

from tonnage._native import Sampled, Sampler, SamplingParams
from tonnage.backends.protocol import SampleRow
from tonnage.core.errors import LogitsError, TonnageError
from tonnage.core.plan import Plan
from tonnage.core.record import record
from tonnage.core.sampling import Constraint, SamplingOptions
from tonnage.text.stream import Detokenizer
from tonnage.text.tokenizer import Tokenizer


@record
class TokenLogprob:
    """A token with the model's own log probability of it and the best alternatives."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass
class Generation:
    """Iterate to receive text as it comes; afterwards the fields have the whole, `str` the text.

    finish_reason: `stop` (end token or stop string), `length` (max_tokens or the context is full),
    `deadline` (its time was up), `error` (see `error`), None while it runs or when it was
    abandoned. stopped_at: the stop string that ended it, if one did. Times in nanoseconds;
    queue_ns: before its prompt was begun, a part of the time to the first token.
    prompt_logprobs: of the prompt's tokens from the second on, where the options ask for them.
    """

    prompt: Sequence[int]
    options: SamplingOptions
    seed: int
    tokens: MutableSequence[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    text: str = ""
    finish_reason: str | None = None
    stopped_at: str | None = None
    num_cached_tokens: int = 0
    queue_ns: int = 0
    time_to_first_token_ns: int = 0
    decode_ns: int = 0
    error: TonnageError | None = None
    _deltas: Iterator[str] = field(default_factory=lambda: iter(()), repr=False)

    def __iter__(self) -> Iterator[str]:
        """Yield text as it is generated."""
        return self._deltas

    def complete(self) -> "Generation":
        """Run to the end and return itself."""
        for _ in self:
            pass
        return self

    def __str__(self) -> str:
        """Return the text, once it is whole."""
        return self.complete().text

    def drop_logprobs(self) -> None:
        """Hold the last log probabilities alone, for a reader who has taken the others."""
        del self.logprobs[:-1]
        self.prompt_logprobs.clear()

    def compact(self) -> None:
        """Hold little of an ended completion whose text was taken: token ids in 4 bytes each."""
        self.text = ""
        self.tokens = array("i", self.tokens)

    @property
    def decode_tokens_per_s(self) -> float:
        """Tokens per second after the first one, 0 when there was only one."""
        steps = len(self.tokens) - 1
        return steps / (self.decode_ns * 1e-9) if steps > 0 and self.decode_ns else 0.0


def native_params(options: SamplingOptions, seed: int) -> SamplingParams:
    """Return the options as the native sampler takes them."""
    params = SamplingParams()
    for name in ("temperature", "top_p", "min_p", "repetition_penalty", "presence_penalty",
                 "frequency_penalty"):  # fmt: skip
        setattr(params, name, getattr(options, name))
    params.top_k = max(0, options.top_k)  # 0 is all, too
    params.seed = seed
    params.logit_bias = dict(options.logit_bias)
    return params


class Completion:
    """A completion in the making: takes one token after another and fills a `Generation`."""

    def __init__(self, generation: Generation, tokenizer: Tokenizer, plan: Plan) -> None:
        """Begin the completion to generation.prompt; nothing is sampled yet.

        What sampling takes is made with the first sample: a thousand completions may wait for it.
        """
        options = generation.options
        self.generation = generation
        self._family = plan.family
        self._vocab_size = plan.vocab_size
        self._sampler: Sampler | None = None
        self._constraint: Constraint | None = None
        self._end_ids = frozenset() if options.ignore_eos else tokenizer.eos_ids
        self._text = Detokenizer(tokenizer, options.stop, shown=options.shown)
        space = plan.context_tokens - len(generation.prompt)
        self.max_tokens = space if options.max_tokens is None else min(options.max_tokens, space)
        self.num_scored = 0  # tokens of the prompt, the first one aside
        self._since_ns = 0

    def resume(self, now_ns: int) -> None:
        """Count time from now on: a slow reader does not make a slow engine."""
        self._since_ns = now_ns

    def started(self, num_cached_tokens: int, admitted_ns: int) -> None:
        """Note, before the first token, what of the prompt was known and when it was begun."""
        self.generation.num_cached_tokens = num_cached_tokens
        self.generation.queue_ns = max(0, admitted_ns - self._since_ns)

    def row(self, index: int) -> SampleRow:
        """Return how the next token is sampled from the `index`-th row of a step's logits."""
        sampler = self._sampler or self._begin()
        if self._constraint is not None:
            sampler.set_mask(self._constraint.mask())
        wanted = self.generation.options.logprobs
        return sampler, index, -1 if wanted is None else wanted

    def score(self, position: int, token: int, sampled: Sampled | str) -> TokenLogprob | None:
        """Take what the model thought of the prompt's token at `position`.

        None where that was known: rows may be computed again after an interruption. sampled: by a
        sampler that takes that token alone. Raises LogitsError where it is a reason.
        """
        one = self._usable(sampled)
        if position != self.num_scored + 1:
            return None
        self.num_scored += 1
        # Of minus infinity any token is sampled.
        logprob = one.logprob if one.token == token else float("-inf")
        entry = TokenLogprob(token, logprob, tuple(one.top))
        self.generation.prompt_logprobs.append(entry)
        return entry

    def _begin(self) -> Sampler:
        generation, options = self.generation, self.generation.options
        sampler = Sampler(self._vocab_size, native_params(options, generation.seed))
        if options.repetition_penalty != 1:  # nothing else asks what the prompt held
            for token in generation.prompt:
                sampler.observe(token)
        self._constraint = None if options.constraint is None else options.constraint()
        self._sampler = sampler
        return sampler

    def take(self, sampled: Sampled | str) -> int:
        """Return the token that was sampled. Raises LogitsError where there is a reason instead."""
        sampled = self._usable(sampled)
        if self._constraint is not None:
            self._constraint.accept(sampled.token)
        if self.generation.options.logprobs is not None:
            one = TokenLogprob(sampled.token, sampled.logprob, tuple(sampled.top))
            self.generation.logprobs.append(one)
        return sampled.token

    def _usable(self, sampled: Sampled | str) -> Sampled:
        if isinstance(sampled, str):
            raise LogitsError(f"{self._family}: {sampled}; download the model again.")
        return sampled

    def accept(self, token: int, now_ns: int) -> str:
        """Take the next token; return the text it adds. Sets finish_reason when it is the last."""
        generation = self.generation
        if generation.tokens:
            generation.decode_ns += now_ns - self._since_ns
        else:
            generation.time_to_first_token_ns = now_ns - self._since_ns
        self._since_ns = now_ns
        generation.tokens.append(token)
        if token in self._end_ids:
            return self.end("stop")
        text = self._text.push(token)
        generation.text += text
        if self._text.stopped_at is not None:
            generation.finish_reason, generation.stopped_at = "stop", self._text.stopped_at
            self._sampler = self._constraint = None
        elif len(generation.tokens) >= self.max_tokens:
            text += self.end("length")
        return text

    def end(self, reason: str) -> str:
        """End the completion here; return the text that was held back until now."""
        self._sampler = self._constraint = None  # others of its request may go on for long
        tail = self._text.flush()
        self.generation.text += tail
        self.generation.stopped_at = self._text.stopped_at
        self.generation.finish_reason = reason if self._text.stopped_at is None else "stop"
        return tail
