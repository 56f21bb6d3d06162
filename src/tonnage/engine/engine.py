"""The composition root: the only module that knows every room."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tonnage.backends.cpu.runtime import Runtime, Span
from tonnage.core.errors import ContextLengthError, RequestError, TonnageError
from tonnage.core.ledger import Entry, Ledger, Measure, ProcessLedger
from tonnage.core.model_spec import ModelSpec
from tonnage.core.page_counts import PageCounts
from tonnage.core.plan import OTHER_ENGINES, SHARED_ITEMS
from tonnage.core.sampling import SamplingOptions
from tonnage.core.units import parse_bytes
from tonnage.engine.build import ServingOptions, build_serving
from tonnage.engine.disk_tier import note_model, open_tier
from tonnage.engine.embedding import Embedder
from tonnage.engine.expectation import Expectation, OnFault, measured_rates, predictor
from tonnage.engine.generation import Generation
from tonnage.engine.headers import read_model
from tonnage.engine.job import Terms, deadline_ns
from tonnage.engine.measure import measure_items
from tonnage.engine.opening import OpenOptions
from tonnage.engine.page_budget import PageBudget
from tonnage.engine.prompts import Message, Prompts
from tonnage.engine.stream import AnswerStream, Serving, failed
from tonnage.machine.host import read_machine
from tonnage.machine.limits import read_limits
from tonnage.machine.memory_use import (
    Start,
    anonymous_bytes,
    file_and_shared_bytes,
    peak_rss_bytes,
    rss_bytes,
)
from tonnage.machine.resident import resident_bytes
from tonnage.planner.search.budget import choose_budget
from tonnage.planner.search.choose import Choice, Question, choose, require_fit
from tonnage.store.audits import known_audits
from tonnage.store.catalog import open_catalogs
from tonnage.store.progress import Progress
from tonnage.store.source import ModelSource, resolve
from tonnage.text.tokenizer import Tokenizer

__all__ = ["Engine", "Message", "Span"]

# The engines of this process: they share its limits and its resident bytes; nothing else passes.
THIS_PROCESS = ProcessLedger()


class Engine:
    """A loaded model. Use `Engine.open`; `close` or a `with` gives the memory back."""

    def __init__(
        self,
        runtime: Runtime,
        tokenizer: Tokenizer,
        source: ModelSource,
        spec: ModelSpec,
        start: Start,
        choice: Choice,
        serving: Serving,
        expectation: Expectation,
        page_counts: PageCounts | None = None,
    ) -> None:
        """Take what `load` built; start: how the process stood before.

        page_counts: of the pages on disk, None where none are kept.
        """
        self.page_counts = page_counts
        self.plan = choice.plan
        self.choice = choice
        self.expectation = expectation
        self.max_context_tokens = spec.context_length
        self._start = start
        self.forms_bytes = 0  # of a server's tables
        self.runtime = runtime
        self.tokenizer = tokenizer
        # What the process holds beside the arena, whose pages answers touch.
        self.outside_bytes = partial(_outside, runtime.arena_address, choice.plan.arena_bytes)
        self._prompts = Prompts(tokenizer, choice.plan.vocab_size, self.outside_bytes)
        self.encode_prompt, self.encode_chat = self._prompts.encode, self._prompts.encode_chat
        self.source = source
        self._serving = serving
        self.look = serving.look  # what it is doing now
        embedder = Embedder(serving, tokenizer, choice.plan, spec.pooling or "mean")
        self.embed, self.embed_stream = embedder.embed, embedder.stream  # texts to vectors
        self.encode_inputs = embedder.encode
        self._pages = PageBudget(
            serving.loop, choice.plan, runtime.arena_address, read_limits, start.process, self
        )
        self._serving.loop.before_step = self._pages
        self._closed = False
        start.process.enter(self)

    @classmethod
    def open(
        cls,
        model: str | None = None,
        memory: str | int | None = None,
        *,
        threads: int | None = None,
        context: int | None = None,
        precision: str | None = None,
        formats: Mapping[str, str] | None = None,
        kv_format: str | None = None,
        quality: str | float | None = None,
        catalog: Path | None = None,
        concurrency: int = 1,
        max_logit_rows: int = 1,
        max_batch_tokens: int | None = None,
        serving: ServingOptions | None = None,
        offline: bool = False,
        progress: Progress | None = None,
        on_load: Callable[[int, int], None] | None = None,
        process: ProcessLedger = THIS_PROCESS,
    ) -> "Engine":
        """Resolve, plan and load `model`: a catalog name, a path, or `hf:owner/name[/file]`.

        memory: bytes for the whole process (`700MiB` or a number), what it can get when left out.
        What is not stated is chosen to fit, see docs/planning.md: threads, context,
        max_batch_tokens, kv_format (`f16` or `int8` pages) and the weights, unless there is a
        precision (`8bit` or `4bit`, of float weights) or formats (what single matrices become, by
        canonical name: `layers.0.down`: `Q4_K`); `choice` says what came of it. quality: how far it
        may lie from the file, a name or a mean KL divergence; `lossless` loads the file as it
        stands or refuses.
        concurrency: answers at once, each with a full context unless `serving` lets them share.
        offline: a model that is not here is an error. on_load is told the bytes placed so far, and
        of all. process: whose engines share the budget.
        Raises a TonnageError subclass for everything that can go wrong before the first token.
        """
        catalogs = open_catalogs(catalog, os.environ)
        source = resolve(model, catalogs=catalogs, offline=offline, progress=progress)
        options = OpenOptions(
            threads, context, precision, formats, kv_format, quality, concurrency, max_logit_rows,
            max_batch_tokens, serving or ServingOptions(),
        )  # fmt: skip
        start = Start.of(process)  # What a pull has loaded is part of it.
        return cls.load(source, memory, options, start, on_load=on_load)

    @classmethod
    def load(
        cls,
        source: ModelSource,
        memory: str | int | None,
        options: OpenOptions,
        start: Start,
        *,
        on_load: Callable[[int, int], None] | None = None,
    ) -> "Engine":
        """Plan and load a model that is here, beside what `start` says; else as in `open`."""
        machine = read_machine()
        noted = note_model(options.serving.disk, source.path)
        spec, tokenizer = read_model(source)
        budget, rates = choose_budget(machine, memory, rss_bytes()), measured_rates(machine)
        question = Question(
            spec, machine, options.constraints(spec), predictor(rates), known_audits(source.path),
            resident_bytes=start.resident_bytes, beside_bytes=start.beside_bytes,
        )  # fmt: skip
        choice = choose(question, budget, compare=False)
        require_fit(choice, budget)
        expectation = Expectation(choice.plan, machine, rates)
        on_place = _with_total(on_load, choice.plan.weight_bytes)
        runtime = Runtime(choice.plan, machine.isa, on_place)
        expectation.loaded()
        before = anonymous_bytes()
        store = open_tier(options.serving.disk, noted, source.path, runtime, tokenizer)
        start = replace(
            start, budget_bytes=budget.num_bytes, store_bytes=anonymous_bytes() - before
        )
        served = build_serving(runtime, tokenizer, options.serving, store=store)
        counts = None if store is None else store.store.counts
        return cls(runtime, tokenizer, source, spec, start, choice, served, expectation, counts)

    def generate(
        self,
        prompt: str | Sequence[int] | Sequence[Message],
        options: SamplingOptions | None = None,
        *,
        raw: bool = False,
        on_fault: OnFault | None = None,
        **overrides: Any,
    ) -> Generation:
        """Return the answer as an iterable of text pieces.

        on_fault is told, while the answer is made, why this machine is slower than it was measured
        to be; each cause once in the engine's life.
        prompt: text (one user message; with raw=True the text itself), token ids, or messages with
        `role` and `content`. overrides: fields of SamplingOptions. Raises ContextLengthError when
        the prompt does not fit, RequestError for parameters out of range.
        """
        generation = self._begin(prompt, options, raw=raw, **overrides)
        return self._serving.start(generation, Terms(), self.expectation.watcher(on_fault))

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
        **overrides: Any,
    ) -> AnswerStream:
        """Return the answer as an asynchronous iterator of pieces; closing it cancels.

        prompt, options, raw, overrides: as in `generate`. priority: higher goes first. deadline_s:
        from now on; after that the answer ends as it is. tenant: whose fair share it counts to.
        cache_salt: prefixes are shared between equal salts only. Raises like `generate`; what the
        scheduler refuses is raised from the iteration.
        """
        generation = self._begin(prompt, options, raw=raw, **overrides)
        end_ns = None if deadline_s is None else deadline_ns(deadline_s)
        return self._serving.stream(generation, Terms(priority, end_ns, tenant, cache_salt))

    def generate_batch(
        self,
        prompts: Sequence[str | Sequence[int] | Sequence[Message]],
        options: SamplingOptions | Sequence[SamplingOptions] | None = None,
        *,
        raw: bool = False,
        on_done: Callable[[int, Generation], None] | None = None,
    ) -> list[Generation]:
        """Answer all prompts, as many at once as memory allows; return the answers in their order.

        options: one for all, or one per prompt. on_done is told each index with its answer as it
        ends. A prompt that fails ends with finish_reason `error` and `error`; the others go on.
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
        **overrides: Any,
    ) -> Generation:
        """Return the answer to `prompt` before its first token."""
        tokens = self.encode_prompt(prompt, raw=raw)
        if len(tokens) >= self.plan.context_tokens:
            raise ContextLengthError(
                f"The prompt has {len(tokens):,} tokens and the context holds "
                f"{self.plan.context_tokens:,}, one of them for the answer; shorten it or open the "
                f"model with --context {len(tokens) + 256}."
            )
        chosen = replace(options or SamplingOptions(), **overrides)
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

    def own_entries(self) -> tuple[Entry, ...]:
        """Return the items of the ledger that are this engine's alone."""
        return tuple(entry for entry in self._measure({}) if entry.name not in SHARED_ITEMS)

    def _measure(self, shared: Mapping[str, tuple[int, Measure]]) -> tuple[Entry, ...]:
        outside: dict[str, tuple[int, Measure]] = {
            "tokenizer": (self.tokenizer.nbytes, "owner"),
            "chat template": (self._prompts.template_bytes, "growth"),
            "answer forms": (self.forms_bytes, "growth"),
            "prefix store": (self._start.store_bytes, "growth"),
            "thread scratch": (self.runtime.thread_scratch_bytes, "owner"),
        }
        return measure_items(self.plan, self.runtime.arena_address, {**outside, **shared})

    def close(self) -> None:
        """Give the memory back."""
        self._closed = True
        self._start.process.leave(self)
        self._serving.loop.close()
        # It refers to the loop, which would keep tokenizer and plan until a garbage collection.
        self._serving.loop.before_step = None
        self.runtime.close()

    def __enter__(self) -> "Engine":
        """Return the engine itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()


def _outside(arena_address: int, arena_bytes: int) -> int:
    return anonymous_bytes() - (resident_bytes(arena_address, arena_bytes) or 0)


def _with_total(
    on_load: Callable[[int, int], None] | None, total_bytes: int
) -> Callable[[int], None] | None:
    return None if on_load is None else lambda done_bytes: on_load(done_bytes, total_bytes)
