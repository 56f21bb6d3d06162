"""The composition root: the only module that knows every room."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tonnage.core.errors import (
    BudgetError,
    ContextLengthError,
    FileFormatError,
    RequestError,
    TonnageError,
)
from tonnage.core.layout import PAGE_TOKENS
from tonnage.core.ledger import Ledger
from tonnage.core.machine import Machine
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import Plan
from tonnage.core.sampling import SamplingOptions
from tonnage.core.units import format_bytes, parse_bytes
from tonnage.formats.gguf import GgufFile
from tonnage.generation import Generation, Generator
from tonnage.machine.host import read_machine
from tonnage.machine.memory_use import (
    anonymous_bytes,
    file_and_shared_bytes,
    peak_rss_bytes,
    rss_bytes,
)
from tonnage.memory.ledger import measure_items
from tonnage.models.catalog import open_catalogs
from tonnage.models.progress import Progress
from tonnage.models.registry import spec_from_gguf, spec_from_hf
from tonnage.models.source import ModelSource, resolve
from tonnage.planner.fit import Budget, Wishes, choose_workload, require_fit
from tonnage.planner.plan import make_plan
from tonnage.runtime.executor import Runtime, Span
from tonnage.runtime.sequence import Sequence as CachedSequence
from tonnage.serving import AnswerStream
from tonnage.text.stranger import broken
from tonnage.text.template import ChatTemplate
from tonnage.text.tokenizer import Tokenizer

__all__ = ["Engine", "Message", "Span"]

_CONFIG_LIMIT_BYTES = 1 << 20

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Start:
    """The process before a model was opened, and what it was allowed then."""

    resident_bytes: int
    anonymous_bytes: int
    budget_bytes: int = 0

    @classmethod
    def now(cls) -> "Start":
        """Return how the process stands."""
        return cls(rss_bytes(), anonymous_bytes())


class Engine:
    """A loaded model. Use `Engine.open`; `close` or a `with` gives the memory back."""

    def __init__(
        self,
        plan: Plan,
        runtime: Runtime,
        tokenizer: Tokenizer,
        source: ModelSource,
        spec: ModelSpec,
        start: "Start",
    ) -> None:
        """Take what `open` built; start: how the process stood before."""
        self.plan = plan
        self.max_context_tokens = spec.context_length
        self._start = start
        self._template_bytes = 0
        self._server_bytes = 0
        self.runtime = runtime
        self.tokenizer = tokenizer
        self.source = source
        pages = list(range(-(-plan.context_tokens // PAGE_TOKENS)))
        self._sequence = CachedSequence(runtime, pages)
        self._template: ChatTemplate | None = None
        self._closed = False

    @classmethod
    def open(
        cls,
        model: str | None = None,
        memory: str | int | None = None,
        *,
        threads: int | None = None,
        context: int | None = None,
        precision: str | None = None,
        catalog: Path | None = None,
        concurrency: int = 1,
        max_logit_rows: int = 1,
        step_rows: int | None = None,
        server_bytes: int = 0,
        server_token_bytes: int = 0,
        offline: bool = False,
        progress: Progress | None = None,
        on_load: Callable[[int, int], None] | None = None,
    ) -> "Engine":
        """Resolve, plan and load `model`: a catalog name, a path, or `hf:owner/name[/file]`.

        memory: bytes for the whole process (`700MiB` or a number); a plan beyond them is refused.
        precision: `8bit` or `4bit` quantizes float weights while loading. server_bytes: planned for
        a server in this process, server_token_bytes for each token of the vocabulary. offline: a
        model that is not here is an error. on_load is told the bytes of weights placed so far, and
        of all.
        Raises a TonnageError subclass for everything that can go wrong before the first token.
        """
        start = Start.now()
        machine = read_machine()
        catalogs = open_catalogs(catalog, os.environ)
        source = resolve(model, catalogs=catalogs, offline=offline, progress=progress)
        spec, tokenizer = read_model(source)
        wishes = Wishes(
            context,
            threads,
            precision,
            concurrency,
            max_logit_rows,
            step_rows,
            server_bytes,
            server_token_bytes,
        )
        workload = choose_workload(spec, machine, wishes, start.resident_bytes)
        plan = make_plan(spec, workload)
        budget = choose_budget(machine, memory)
        require_fit(spec, workload, plan, budget)
        start = replace(start, budget_bytes=budget.num_bytes)
        runtime = Runtime(plan, machine.isa, _with_total(on_load, plan.weight_bytes))
        return cls(plan, runtime, tokenizer, source, spec, start)

    def generate(
        self,
        prompt: str | Sequence[int] | Sequence[Message],
        options: SamplingOptions | None = None,
        *,
        raw: bool = False,
        **overrides: Any,
    ) -> Generation:
        """Return the answer as an iterable of text pieces.

        prompt: text (one user message; with raw=True the text itself), token ids, or messages with
        `role` and `content`. overrides: fields of SamplingOptions. Raises ContextLengthError when
        the prompt does not fit, RequestError for parameters out of range.
        """
        tokens = self.encode_prompt(prompt, raw=raw)
        if len(tokens) >= self.plan.context_tokens:
            raise ContextLengthError(
                f"The prompt has {len(tokens):,} tokens and the context holds "
                f"{self.plan.context_tokens:,}, one of them for the answer; shorten it or open the "
                f"model with --context {len(tokens) + 256}."
            )
        chosen = replace(options or SamplingOptions(), **overrides)
        generator = Generator(self.runtime, self.tokenizer, self._sequence)
        return generator.start(tokens, chosen)

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
        return AnswerStream(self.generate(prompt, options, raw=raw, **overrides))

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
        many = [options] * len(prompts) if not isinstance(options, Sequence) else list(options)
        done = []
        for index, (prompt, one) in enumerate(zip(prompts, many, strict=True)):
            try:
                generation = self.generate(prompt, one, raw=raw).complete()
            except TonnageError as error:
                generation = Generation([], one or SamplingOptions(), 0)
                generation.finish_reason, generation.error = "error", error
            done.append(generation)
            if on_done is not None:
                on_done(index, generation)
        return done

    def encode_prompt(
        self, prompt: str | Sequence[int] | Sequence[Message], *, raw: bool
    ) -> list[int]:
        """Return the token ids of a prompt in any form. Raises RequestError for an empty one."""
        if isinstance(prompt, str):
            if raw or self.tokenizer.chat_template is None:
                tokens = self.tokenizer.encode(prompt, add_special=True, parse_special=raw)
            else:
                tokens = self.encode_chat([{"role": "user", "content": prompt}])
        elif all(isinstance(item, int) for item in prompt):
            tokens = [int(item) for item in prompt if isinstance(item, int)]
            self._check_ids(tokens)
        else:
            tokens = self.encode_chat([item for item in prompt if not isinstance(item, int)])
        if not tokens:
            raise RequestError("The prompt is empty; give it at least one token.")
        return tokens

    def _check_ids(self, tokens: list[int]) -> None:
        wrong = next((t for t in tokens if not 0 <= t < self.plan.vocab_size), None)
        if wrong is not None:
            raise RequestError(
                f"Token id {wrong} is not in the vocabulary of {self.plan.vocab_size:,} tokens."
            )

    def encode_chat(
        self, messages: Sequence[Message], variables: Mapping[str, Any] | None = None
    ) -> list[int]:
        """Return the token ids of `messages` in the model's chat template.

        variables: more names for the template, such as `tools`. Control tokens that are written in
        either are plain text. Raises ChatTemplateError, RequestError. One thread at a time.
        """
        tokenizer = self.tokenizer
        before = None if self._template else anonymous_bytes()
        self._template = self._template or ChatTemplate(tokenizer.chat_template)
        end_id = next(iter(tokenizer.eos_ids)) if len(tokenizer.eos_ids) == 1 else None
        prompt = self._template.render(
            broken(messages, tokenizer),
            variables=broken(variables or {}, tokenizer),
            bos_token=_text_of(tokenizer, tokenizer.bos_id),
            eos_token=_text_of(tokenizer, end_id),
        )
        if before is not None:
            self._template_bytes = max(0, anonymous_bytes() - before)
        return tokenizer.encode(prompt, add_special=False, parse_special=True)

    def forget_prefix(self) -> None:
        """Forget what is computed of earlier prompts; the next one starts from nothing."""
        self._sequence.rewind_to([])

    def note_server(self, num_bytes: int) -> None:
        """Take note of what the server in this process has grown it by, for the ledger."""
        self._server_bytes = num_bytes

    def ledger(self) -> Ledger:
        """Return every item planned, now and at its peak; docs/footprint.md says how each is found.

        Raises RequestError when the engine is closed.
        """
        if self._closed:
            raise RequestError("The engine is closed, so nothing of it is left to measure.")
        plan = self.plan
        files_bytes, rss, peak = file_and_shared_bytes(), rss_bytes(), peak_rss_bytes()
        items = measure_items(
            plan,
            self.runtime.arena_address,
            {
                "interpreter and libraries": (self._start.anonymous_bytes + files_bytes, "pages"),
                "tokenizer": (self.tokenizer.nbytes, "owner"),
                "chat template": (self._template_bytes, "growth"),
                "server": (self._server_bytes, "growth"),
                "thread scratch": (self.runtime.thread_scratch_bytes, "owner"),
            },
        )
        return Ledger(items, self._start.budget_bytes, rss, peak)

    def close(self) -> None:
        """Give the memory back."""
        self._closed = True
        self.runtime.close()

    def __enter__(self) -> "Engine":
        """Return the engine itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()


def choose_budget(machine: Machine, memory: str | int | None) -> Budget:
    """Return what the whole process may come to: `memory`, or what it holds and can still get.

    Raises UnitError for a text that states no bytes, BudgetError for more than the machine has.
    """
    if memory is None:
        left = rss_bytes() + machine.usable_memory_bytes
        return Budget(left, "may be used by this process")
    stated = parse_bytes(memory) if isinstance(memory, str) else memory
    if stated > machine.memory_total_bytes > 0:
        raise BudgetError(
            f"{format_bytes(stated)} were allowed and this machine has "
            f"{format_bytes(machine.memory_total_bytes)}; state at most that."
        )
    return Budget(stated, "were allowed")


def read_spec(source: ModelSource) -> ModelSpec:
    """Read the headers of a model; neither weights nor tokenizer."""
    if source.form == "gguf":
        with GgufFile.open(str(source.path)) as file:
            return spec_from_gguf(file.metadata, file.catalog)
    from tonnage.formats.safetensors import open_safetensors

    config = read_config(source.path / "config.json")
    return spec_from_hf(config, open_safetensors(source.path))


def read_model(source: ModelSource) -> tuple[ModelSpec, Tokenizer]:
    """Read the headers of a model and its tokenizer; no weights."""
    if source.form == "gguf":
        with GgufFile.open(str(source.path)) as file:
            spec = spec_from_gguf(file.metadata, file.catalog)
            return spec, Tokenizer.from_gguf(file.metadata)
    return read_spec(source), Tokenizer.from_folder(source.path)


def read_config(path: Path) -> dict[str, Any]:
    """Return a model's config.json. Raises FileFormatError when it is no JSON object."""
    if path.stat().st_size > _CONFIG_LIMIT_BYTES:
        raise FileFormatError(f"{path} is larger than {format_bytes(_CONFIG_LIMIT_BYTES)}.")
    try:
        config = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not valid JSON ({error}); download it again.") from error
    if not isinstance(config, dict):
        raise FileFormatError(f"{path} holds no JSON object; download it again.")
    return config


def _text_of(tokenizer: Tokenizer, token_id: int | None) -> str:
    return "" if token_id is None else tokenizer.token_bytes(token_id).decode("utf-8", "replace")


def _with_total(
    on_load: Callable[[int, int], None] | None, total_bytes: int
) -> Callable[[int], None] | None:
    return None if on_load is None else lambda done_bytes: on_load(done_bytes, total_bytes)
