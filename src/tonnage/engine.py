"""The composition root: the only module that knows every room."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tonnage.core.errors import BudgetError, ContextLengthError, FileFormatError, RequestError
from tonnage.core.layout import PAGE_TOKENS
from tonnage.core.machine import Machine
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import Plan
from tonnage.core.sampling import SamplingOptions
from tonnage.core.units import format_bytes, parse_bytes
from tonnage.formats.gguf import GgufFile
from tonnage.generation import Generation, Generator
from tonnage.machine.host import read_machine
from tonnage.models.catalog import open_catalogs
from tonnage.models.progress import Progress
from tonnage.models.registry import spec_from_gguf, spec_from_hf
from tonnage.models.source import ModelSource, resolve
from tonnage.planner.plan import Workload, make_plan
from tonnage.runtime.executor import Runtime
from tonnage.runtime.sequence import Sequence as CachedSequence
from tonnage.text.tokenizer import Tokenizer

DEFAULT_CONTEXT_TOKENS = 4096
_CONFIG_LIMIT_BYTES = 1 << 20

Message = Mapping[str, Any]


class Engine:
    """A loaded model. Use `Engine.open`; close it, or use it in a `with`, to give the memory back."""

    def __init__(self, plan: Plan, runtime: Runtime, tokenizer: Tokenizer, source: ModelSource) -> None:
        """Take what `open` built."""
        self.plan = plan
        self.runtime = runtime
        self.tokenizer = tokenizer
        self.source = source
        pages = list(range(-(-plan.context_tokens // PAGE_TOKENS)))
        self._sequence = CachedSequence(runtime, pages)

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
        progress: Progress | None = None,
        on_load: Callable[[int], None] | None = None,
    ) -> "Engine":
        """Resolve, plan and load `model`: a catalog name, a path, or `hf:owner/name[/file]`.

        memory: bytes for arena and tokenizer (`700MiB` or a number). precision: `8bit` or `4bit`
        quantizes float weights while loading. on_load is told the bytes of weights placed so far.
        Raises a TonnageError subclass for everything that can go wrong before the first token.
        """
        machine = read_machine()
        source = resolve(model, catalogs=open_catalogs(catalog), progress=progress)
        spec, tokenizer = read_model(source)
        workload = Workload(
            context_tokens=_context(spec, context),
            threads=_threads(machine, threads),
            concurrency=concurrency,
            max_logit_rows=max_logit_rows,
            precision=_precision(precision),
        )
        plan = make_plan(spec, workload)
        _check_budget(plan, tokenizer, machine, memory)
        return cls(plan, Runtime(plan, machine.isa, on_load), tokenizer, source)

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

    def encode_prompt(self, prompt: str | Sequence[int] | Sequence[Message], *, raw: bool) -> list[int]:
        """Return the token ids of a prompt in any of its forms. Raises RequestError for an empty one."""
        if isinstance(prompt, str):
            if raw or self.tokenizer.chat_template is None:
                tokens = self.tokenizer.encode(prompt, add_special=True, parse_special=raw)
            else:
                tokens = self._encode_chat([{"role": "user", "content": prompt}])
        elif all(isinstance(item, int) for item in prompt):
            tokens = [int(item) for item in prompt if isinstance(item, int)]
            self._check_ids(tokens)
        else:
            tokens = self._encode_chat([item for item in prompt if not isinstance(item, int)])
        if not tokens:
            raise RequestError("The prompt is empty; give it at least one token.")
        return tokens

    def _check_ids(self, tokens: list[int]) -> None:
        wrong = next((t for t in tokens if not 0 <= t < self.plan.vocab_size), None)
        if wrong is not None:
            raise RequestError(
                f"Token id {wrong} is not in the vocabulary of {self.plan.vocab_size:,} tokens."
            )

    def _encode_chat(self, messages: Sequence[Message]) -> list[int]:
        from tonnage.text.template import render_chat

        return self.tokenizer.encode(
            render_chat(self.tokenizer, messages), add_special=False, parse_special=True
        )

    def close(self) -> None:
        """Give the memory back."""
        self.runtime.close()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read_model(source: ModelSource) -> tuple[ModelSpec, Tokenizer]:
    """Read the headers of a model and its tokenizer; no weights."""
    if source.form == "gguf":
        with GgufFile.open(str(source.path)) as file:
            spec = spec_from_gguf(file.metadata, file.catalog)
            return spec, Tokenizer.from_gguf(file.metadata)
    from tonnage.formats.safetensors import open_safetensors

    config = read_config(source.path / "config.json")
    return spec_from_hf(config, open_safetensors(source.path)), Tokenizer.from_folder(source.path)


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


def _context(spec: ModelSpec, wanted: int | None) -> int:
    if wanted is None:
        return min(DEFAULT_CONTEXT_TOKENS, spec.context_length)
    if wanted < 2 or wanted > spec.context_length:
        raise RequestError(
            f"A context of {wanted:,} tokens was asked for; this model takes 2 to {spec.context_length:,}."
        )
    return wanted


def _threads(machine: Machine, wanted: int | None) -> int:
    if wanted is None:
        return machine.default_threads
    if not 1 <= wanted <= 256:
        raise RequestError(f"{wanted} threads were asked for; it takes 1 to 256.")
    return wanted


def _precision(wanted: str | None) -> str | None:
    if wanted not in (None, "8bit", "4bit"):
        raise RequestError(f"The precision {wanted!r} is unknown; use 8bit or 4bit, or leave it out.")
    return wanted


def _check_budget(plan: Plan, tokenizer: Tokenizer, machine: Machine, memory: str | int | None) -> None:
    stated = parse_bytes(memory) if isinstance(memory, str) else memory
    needed = plan.arena_bytes + tokenizer.nbytes
    limit = machine.usable_memory_bytes if stated is None else stated
    if needed > limit:
        lines = ", ".join(f"{item.name} {format_bytes(item.planned_bytes)}" for item in plan.items)
        origin = "may be used by this process" if stated is None else "were allowed"
        raise BudgetError(
            f"The model needs {format_bytes(needed)} ({lines}) and {format_bytes(limit)} {origin}, "
            f"{format_bytes(needed - limit)} short; choose a smaller --context or model."
        )
