"""A loaded model: the module where all packages meet."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self, Unpack

from tonnage.backends.protocol import Backend, Span
from tonnage.core.errors import RequestError, TonnageError
from tonnage.core.ledger import Entry, Ledger, Measure, ProcessLedger
from tonnage.core.options import current
from tonnage.core.plan import OTHER_ENGINES, SHARED_ITEMS
from tonnage.core.pooling import Pooling, TrainedPooling
from tonnage.core.sampling import SamplingOptions, SamplingOverrides
from tonnage.core.units import parse_bytes
from tonnage.engine.assembly import (
    LoadedModel,
    assemble,
    choose_for,
    read_checkpoint,
    read_host,
    require_unchanged,
)
from tonnage.engine.build import ServingOptions
from tonnage.engine.expectation import OnSlowdown
from tonnage.engine.generation import Generation
from tonnage.engine.job import RequestParameters, deadline_ns
from tonnage.engine.measure import bytes_beside, measure_items
from tonnage.engine.opening import constraints_of, serving_of
from tonnage.engine.options import EngineOptions
from tonnage.engine.page_budget import PageBudget
from tonnage.engine.prompts import Message, PromptEnd, Prompts, require_context
from tonnage.engine.stream import CompletionStream, failed
from tonnage.machine.limits import read_limits
from tonnage.machine.memory_use import (
    Start,
    file_and_shared_bytes,
    peak_rss_bytes,
    rss_bytes,
)
from tonnage.planner.search.budget import choose_budget
from tonnage.planner.search.choose import PlanChoice
from tonnage.store.catalog import open_catalogs
from tonnage.store.progress import Progress
from tonnage.store.source import ModelSource, resolve

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tonnage.engine.activity import Activity
    from tonnage.engine.embedding import Embedder, Embedding, EmbeddingStream, Inputs
    from tonnage.planner.plan_file import PlanFile

__all__ = ["Engine", "Message", "Span"]

# The engines of this process: they share its limits and its resident bytes; nothing else passes.
THIS_PROCESS = ProcessLedger()


class Engine:
    """A loaded model. Use `Engine.open`; `close` or a `with` gives the memory back."""

    def __init__(self, loaded: LoadedModel) -> None:
        """Take what `assemble` built."""
        self.page_counts = loaded.page_counts  # of pages on disk; None where none are kept
        self.draft_counts = loaded.draft_counts  # None without speculation
        choice, runtime, start = loaded.choice, loaded.runtime, loaded.start
        spec, tokenizer = loaded.checkpoint.spec, loaded.checkpoint.tokenizer
        self.choice, self.plan = choice, choice.plan
        self.expectation = loaded.expectation
        self.max_context_tokens = spec.context_length
        self._start = start
        self._structured_output_bytes = 0  # of a server's tables
        self.runtime = runtime
        self.tokenizer = tokenizer
        # What the process holds beside the arena, whose pages sequences touch.
        self.outside_bytes = partial(bytes_beside, runtime)
        self._prompts = Prompts(tokenizer, choice.plan.vocab_size, self.outside_bytes)
        self.source = loaded.checkpoint.source
        self._serving = loaded.serving
        self._has_head = spec.has_head
        self._pooling = TrainedPooling(spec.pooling, spec.unmet_pooling)
        self._pages = PageBudget(self._serving.loop, runtime, read_limits, start.process, self)
        self._serving.loop.before_step = self._pages
        self._closed = False
        start.process.enter(self)

    @classmethod
    def open(
        cls,
        model: str | os.PathLike[str] | None = None,
        memory: str | int | None = None,
        *,
        plan: "PlanFile | str | os.PathLike[str] | None" = None,
        serving: ServingOptions | None = None,
        progress: Progress | None = None,
        on_load: Callable[[int, int], None] | None = None,
        process: ProcessLedger = THIS_PROCESS,
        backend: Backend | None = None,
        **options: Unpack[EngineOptions],
    ) -> Self:
        """Resolve, plan and load `model`: a catalog name, a path, or `hf:owner/name[/file]`.

        memory: bytes for the whole process (`700MiB` or a number), what it can get when left out.
        options: the fields of EngineOptions; what is not stated is chosen to fit
        (docs/planning.md), and `choice` holds what came of it. plan: what `tonnage plan -o` wrote,
        in place of a choice; it states model and memory where these are left out. serving: how its
        sequences are served, for servers. on_load receives the bytes placed so far, and of all.
        process: whose engines share the budget. backend: what computes, this machine's CPU if None.
        Raises a TonnageError for whatever goes wrong, TypeError for an unknown option.
        """
        stated: EngineOptions = current(EngineOptions, options)
        serving = serving_of(stated, serving)
        file = None
        if plan is not None:
            from tonnage.engine.plan_files import choice_in, stated_plan

            file = stated_plan(plan, stated)
            model, memory = model or file.model, memory or file.budget_bytes
        catalogs = open_catalogs(stated.get("catalog"), os.environ)
        source = resolve(
            model, catalogs=catalogs, offline=stated.get("offline", False), progress=progress
        )
        start = Start.of(process)  # What a pull has loaded is part of it.
        host = read_host(backend)
        checkpoint = read_checkpoint(source, serving)
        budget = choose_budget(host.machine, memory, rss_bytes())
        if file is not None:
            choice = choice_in(
                file, source, checkpoint.spec, host.machine, host.backend.layout, start, serving
            )
        else:
            choice = choose_for(checkpoint, host, constraints_of(stated, serving), budget, start)
        return cls(assemble(choice, checkpoint, host, budget, serving, start, on_load))

    @classmethod
    def load(
        cls,
        choice: PlanChoice,
        source: ModelSource,
        memory: str | int | None,
        serving: ServingOptions,
        start: Start,
        *,
        on_load: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Load a model that is here by the plan that was chosen for it, beside what `start` says.

        memory: for the whole process, what it can get if None. Raises BudgetError when the plan
        does not fit it, or when the checkpoint takes more than it was planned with;
        FileFormatError when its headers changed otherwise.
        """
        host, checkpoint = read_host(), read_checkpoint(source, serving)
        require_unchanged(choice, checkpoint, host.backend.layout)
        budget = choose_budget(host.machine, memory, rss_bytes())
        return cls(assemble(choice, checkpoint, host, budget, serving, start, on_load))

    def generate(
        self,
        prompt: str | Sequence[int] | Sequence[Message],
        options: SamplingOptions | None = None,
        *,
        raw: bool = False,
        on_slowdown: OnSlowdown | None = None,
        **overrides: Unpack[SamplingOverrides],
    ) -> Generation:
        """Return the completion as an iterable of text deltas.

        on_slowdown receives, during decoding, why this machine is slower than it was measured
        to be; each cause once in the engine's life.
        prompt: text (one user message; with raw=True the text itself), token ids, or messages with
        `role` and `content`. overrides: fields of SamplingOptions. Raises ContextLengthError when
        the prompt does not fit, RequestError for parameters out of range.
        """
        generation = self._begin(prompt, options, raw=raw, **overrides)
        return self._serving.start(generation, self.expectation.watcher(on_slowdown))

    def stream(
        self,
        prompt: str | Sequence[int] | Sequence[Message],
        options: SamplingOptions | None = None,
        *,
        raw: bool = False,
        priority: int = 0,
        deadline_s: float | None = None,
        tenant: str = "",
        cache_salt: str = "",
        **overrides: Unpack[SamplingOverrides],
    ) -> CompletionStream:
        """Return the completion as an asynchronous iterator of deltas; closing it cancels.

        prompt, options, raw, overrides: as in `generate`. priority: higher goes first. deadline_s:
        from now on; after that the completion ends as it is. tenant: whose fair share it counts to.
        cache_salt: prefixes are shared between equal salts only. Raises like `generate`; what the
        scheduler refuses is raised from the iteration.
        """
        generation = self._begin(prompt, options, raw=raw, **overrides)
        parameters = RequestParameters(priority, deadline_ns(deadline_s), tenant, cache_salt)
        return self._serving.stream(generation, parameters)

    def generate_batch(
        self,
        prompts: Sequence[str | Sequence[int] | Sequence[Message]],
        options: SamplingOptions | Sequence[SamplingOptions] | None = None,
        *,
        raw: bool = False,
        on_done: Callable[[int, Generation], None] | None = None,
    ) -> list[Generation]:
        """Complete all prompts, as many at once as memory allows; return them in their order.

        options: one for all, or one per prompt. on_done receives each index with its completion as
        it ends. A prompt that fails ends with finish_reason `error` and `error`; the others go on.
        """
        many = list(options) if isinstance(options, Sequence) else [options] * len(prompts)
        all_, sound = [], []
        for prompt, one in zip(prompts, many, strict=True):
            try:
                all_.append(self._begin(prompt, one, raw=raw))
                sound.append(len(all_) - 1)
            except TonnageError as error:
                all_.append(failed(one or SamplingOptions(), error))
                if on_done is not None:
                    on_done(len(all_) - 1, all_[-1])
        self._serving.run_batch(
            [all_[index] for index in sound],
            2 * self.plan.concurrency,
            lambda i: on_done(sound[i], all_[sound[i]]) if on_done is not None else None,
        )
        return all_

    def embed(
        self,
        inputs: "Inputs",
        *,
        pooling: Pooling | None = None,
        dimensions: int | None = None,
        normalize: bool = True,
    ) -> "list[Embedding]":
        """Return the vector of each text: its hidden states after the final norm, pooled.

        inputs: a text or token ids, or a list of either, each up to the context. pooling: `mean` or
        `last`, the model's own when left out. dimensions: of the vector, the first ones. normalize:
        to length 1. Bits depend on the text and these alone. Raises ContextLengthError for a text
        that is too long, RequestError for an empty one and what is out of range, LogitsError for
        numbers that overflow.
        """
        options = self._embedder.options(pooling, dimensions, normalize=normalize)
        return self._embedder.embed(inputs, options)

    def embed_stream(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        pooling: Pooling | None = None,
        dimensions: int | None = None,
        priority: int = 0,
        deadline_s: float | None = None,
        tenant: str = "",
    ) -> "EmbeddingStream":
        """Return the vectors, of length 1, as an asynchronous iterator; closing it cancels.

        prompts: of `encode_inputs`. pooling, dimensions: as of `embed`; priority, deadline_s,
        tenant: as of `stream`. Raises RequestError for what is out of range; what the scheduler
        refuses is raised from the iteration.
        """
        options = self._embedder.options(pooling, dimensions)
        parameters = RequestParameters(priority, deadline_ns(deadline_s), tenant)
        return self._embedder.stream(prompts, options, parameters)

    def encode_prompt(
        self, prompt: str | Sequence[int] | Sequence[Message], *, raw: bool = False
    ) -> Sequence[int]:
        """Return the token ids of a prompt in any form that `generate` takes.

        An array of ids is returned as it is. Raises RequestError for an empty prompt and unknown
        ids, ChatTemplateError.
        """
        return self._prompts.encode(prompt, raw=raw)

    def encode_chat(
        self,
        messages: Sequence[Message],
        variables: Mapping[str, Any] | None = None,
        **end: Unpack[PromptEnd],
    ) -> list[int]:
        """Return the token ids of `messages` in the model's chat template; one thread at a time.

        variables: more names for the template, such as `tools`. Control tokens that are written in
        either are plain text. end: `continue_final_message` ends it with the last message's text,
        `add_generation_prompt=False` with its turn. Raises ChatTemplateError, RequestError.
        """
        return self._prompts.encode_chat(messages, variables, **end)

    def encode_inputs(self, inputs: "Inputs") -> list[Sequence[int]]:
        """Return the token ids of every text to embed.

        Control tokens that are written in a text are plain text. Raises RequestError for no text,
        an empty one and unknown ids, ContextLengthError for one longer than the context.
        """
        return self._embedder.encode(inputs)

    @cached_property
    def _embedder(self) -> "Embedder":
        from tonnage.engine.embedding import Embedder

        return Embedder(self._serving, self.tokenizer, self.plan, self._pooling)

    def look(self) -> "Future[Activity]":
        """Return what the engine is doing, as of the end of the step that runs now.

        For servers: a thread takes over driving the steps. Raises RequestError when closed.
        """
        return self._serving.look()

    def set_budget(self, memory: str | int) -> None:
        """Keep the whole process within `memory` from now on, by giving up KV pages.

        Takes effect before the next step; docs/scheduling.md says in which order. Raises UnitError
        for a text that states no bytes, BudgetError when all else alone takes more.
        """
        self._pages.state(parse_bytes(memory) if isinstance(memory, str) else memory)

    def _begin(
        self,
        prompt: str | Sequence[int] | Sequence[Message],
        options: SamplingOptions | None,
        *,
        raw: bool,
        **overrides: Unpack[SamplingOverrides],
    ) -> Generation:
        """Return the completion of `prompt` before its first token."""
        if not self._has_head:
            raise RequestError(
                f"{self.source.name} is a base model without an output head, so it writes no text; "
                "ask it for embeddings, or use a checkpoint that has lm_head.weight."
            )
        tokens = self.encode_prompt(prompt, raw=raw)
        require_context(len(tokens), self.plan.context_tokens)
        chosen = replace(options or SamplingOptions(), **current(SamplingOptions, overrides))
        return Generation(tokens, chosen, chosen.resolved_seed())

    def ledger(self) -> Ledger:
        """Return every item planned, now and at its peak; docs/footprint.md says how each is found.

        Raises RequestError when the engine is closed.
        """
        if self._closed:
            raise RequestError("The engine is closed, so nothing of it is left to measure.")
        process_bytes = self._start.anonymous_bytes + file_and_shared_bytes()
        process: tuple[int, Measure] = (process_bytes, "pages")
        items = self._measure({"interpreter and libraries": process})
        if (beside := self._start.process.beside(self)) is not None:
            items = (*(item for item in items if item.name != OTHER_ENGINES), beside)
        return Ledger(items, self._start.budget_bytes, rss_bytes(), peak_rss_bytes())

    @property
    def planned_bytes(self) -> int:
        """What this engine may come to once it is loaded, without what the process shares."""
        return self.plan.own_bytes

    @property
    def held_bytes(self) -> int:
        """What this engine holds now, without what the process shares."""
        return sum(entry.now_bytes for entry in self.own_entries())

    def note_structured_output(self, num_bytes: int) -> None:
        """Count `num_bytes` as the tables of structured output, for a server that built them."""
        self._structured_output_bytes = num_bytes

    def own_entries(self) -> tuple[Entry, ...]:
        """Return the items of the ledger that are this engine's alone."""
        return tuple(entry for entry in self._measure({}) if entry.name not in SHARED_ITEMS)

    def _measure(self, shared: Mapping[str, tuple[int, Measure]]) -> tuple[Entry, ...]:
        outside: dict[str, tuple[int, Measure]] = {
            "tokenizer": (self.tokenizer.nbytes, "owner"),
            "chat template": (self._prompts.template_bytes, "growth"),
            "structured output": (self._structured_output_bytes, "growth"),
            "prefix store": (self._start.store_bytes, "growth"),
            "thread scratch": (self.runtime.thread_scratch_bytes, "owner"),
        }
        return measure_items(self.plan, self.runtime.resident_items(), {**outside, **shared})

    def close(self) -> None:
        """Give the memory back."""
        self._closed = True
        self._start.process.leave(self)
        self._serving.loop.close()
        # It refers to the loop, which would keep tokenizer and plan until a garbage collection.
        self._serving.loop.before_step = None
        self.runtime.close()

    def __enter__(self) -> Self:
        """Return the engine itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()
