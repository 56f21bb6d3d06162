"""An answer while it is being made: an iterator of pieces of text, and what it came to."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tonnage._native import Sampled, Sampler, SamplingParams
from tonnage.core.errors import TonnageError
from tonnage.core.sampling import Constraint, SamplingOptions
from tonnage.runtime.executor import Runtime
from tonnage.runtime.sequence import Sequence
from tonnage.text.stream import Detokenizer
from tonnage.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A generated token with the model's own log probability and the best alternatives."""

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass
class Generation:
    """Iterate to receive text as it comes; afterwards the fields tell the whole.

    finish_reason: `stop` (end token or stop string), `length` (max_tokens or the context is full),
    `deadline` (its time was up), `error` (see `error`), None while it runs or when it was
    abandoned. Times in nanoseconds.
    """

    prompt: list[int]
    options: SamplingOptions
    seed: int
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    text: str = ""
    finish_reason: str | None = None
    num_cached_tokens: int = 0
    time_to_first_token_ns: int = 0
    decode_ns: int = 0
    error: TonnageError | None = None
    _pieces: Iterator[str] = field(default_factory=lambda: iter(()), repr=False)

    def __iter__(self) -> Iterator[str]:
        """Yield text as it is generated."""
        return self._pieces

    def complete(self) -> "Generation":
        """Run to the end and return itself."""
        for _ in self:
            pass
        return self

    @property
    def decode_tokens_per_s(self) -> float:
        """Tokens per second after the first one, 0 when there was only one."""
        steps = len(self.tokens) - 1
        return steps / (self.decode_ns * 1e-9) if steps > 0 and self.decode_ns else 0.0


def native_params(options: SamplingOptions, seed: int) -> SamplingParams:
    """Return the options as the native sampler takes them."""
    params = SamplingParams()
    for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty",
                 "frequency_penalty"):  # fmt: skip
        setattr(params, name, getattr(options, name))
    params.seed = seed
    params.logit_bias = dict(options.logit_bias)
    return params


class Generator:
    """Drives one sequence: prefill in chunks, then one token per step."""

    def __init__(self, runtime: Runtime, tokenizer: Tokenizer, sequence: Sequence) -> None:
        """Take the loaded model and the sequence that answers go to."""
        self._runtime = runtime
        self._tokenizer = tokenizer
        self._sequence = sequence

    def start(self, prompt: list[int], options: SamplingOptions) -> Generation:
        """Return the answer to `prompt`; nothing is computed before it is iterated."""
        generation = Generation(prompt, options, options.resolved_seed())
        generation._pieces = self._run(generation)
        return generation

    def _run(self, generation: Generation) -> Iterator[str]:
        options = generation.options
        sampler = Sampler(self._runtime.plan.vocab_size, native_params(options, generation.seed))
        for token in generation.prompt:
            sampler.observe(token)
        constraint = None if options.constraint is None else options.constraint()
        text = Detokenizer(self._tokenizer, options.stop)
        room = self._sequence.capacity_tokens - len(generation.prompt)
        limit = room if options.max_tokens is None else min(options.max_tokens, room)
        begin = time.perf_counter_ns()
        self._prefill(generation)
        pending: list[int] = []
        while len(generation.tokens) < limit:
            if pending:
                self._sequence.extend(pending)
            token = self._draw(generation, sampler, constraint)
            if not generation.tokens:
                generation.time_to_first_token_ns = time.perf_counter_ns() - begin
                begin = time.perf_counter_ns()
            generation.tokens.append(token)
            generation.decode_ns = time.perf_counter_ns() - begin
            pending = [token]
            if token in self._tokenizer.eos_ids and not options.ignore_eos:
                generation.finish_reason = "stop"
                break
            piece = text.push(token)
            if piece:
                generation.text += piece
                paused = time.perf_counter_ns()
                yield piece
                # A slow reader does not make a slow engine.
                begin += time.perf_counter_ns() - paused
            if text.stopped_at is not None:
                generation.finish_reason = "stop"
                return
        tail = text.flush()
        ended = generation.finish_reason == "stop" or text.stopped_at is not None
        generation.finish_reason = "stop" if ended else "length"
        if tail:
            generation.text += tail
            yield tail

    def _prefill(self, generation: Generation) -> None:
        generation.num_cached_tokens = self._sequence.rewind_to(generation.prompt)
        chunk = self._runtime.plan.max_rows
        for begin in range(generation.num_cached_tokens, len(generation.prompt), chunk):
            self._sequence.extend(generation.prompt[begin : begin + chunk])

    def _draw(self, generation: Generation, sampler: Sampler, constraint: Constraint | None) -> int:
        wanted = generation.options.logprobs
        if constraint is not None:
            sampler.set_mask(constraint.mask())
        drawn: Sampled = self._runtime.sample(sampler, 0, -1 if wanted is None else wanted)
        if constraint is not None:
            constraint.accept(drawn.token)
        if wanted is not None:
            generation.logprobs.append(TokenLogprob(drawn.token, drawn.logprob, tuple(drawn.top)))
        return drawn.token
