"""The composition root: the only module that knows every room."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tonnage.core.errors import ContextLengthError, FileFormatError, RequestError
from tonnage.core.layout import PAGE_TOKENS
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import Plan
from tonnage.core.sampling import SamplingOptions
from tonnage.core.units import format_bytes, parse_bytes
from tonnage.formats.gguf import GgufFile
from tonnage.generation import Generation, Generator
from tonnage.machine.host import read_machine
from tonnage.machine.memory_use import rss_bytes
from tonnage.models.catalog import open_catalogs
from tonnage.models.progress import Progress
from tonnage.models.registry import spec_from_gguf, spec_from_hf
from tonnage.models.source import ModelSource, resolve
from tonnage.planner.fit import Wishes, choose_workload, require_fit
from tonnage.planner.plan import make_plan
from tonnage.runtime.executor import Runtime, Span
from tonnage.runtime.sequence import Sequence as CachedSequence
from tonnage.text.template import ChatTemplate
from tonnage.text.tokenizer import Tokenizer

__all__ = ["Engine", "Message", "Span"]

_CONFIG_LIMIT_BYTES = 1 << 20

Message = Mapping[str, Any]


class Engine:
    """A loaded model. Use `Engine.open`; `close` or a `with` gives the memory back."""

    def __init__(
        self,
        plan: Plan,
        runtime: Runtime,
        tokenizer: Tokenizer,
        source: ModelSource,
        max_context_tokens: int,
    ) -> None:
        """Take what `open` built; max_context_tokens: what the model was made for."""
        self.plan = plan
        self.max_context_tokens = max_context_tokens
        self.runtime = runtime
        self.tokenizer = tokenizer
        self.source = source
        pages = list(range(-(-plan.context_tokens // PAGE_TOKENS)))
        self._sequence = CachedSequence(runtime, pages)
        self._template: ChatTemplate | None = None

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
        offline: bool = False,
        progress: Progress | None = None,
        on_load: Callable[[int, int], None] | None = None,
    ) -> "Engine":
        """Resolve, plan and load `model`: a catalog name, a path, or `hf:owner/name[/file]`.

        memory: bytes for the whole process (`700MiB` or a number); a plan beyond them is refused.
        precision: `8bit` or `4bit` quantizes float weights while loading. offline: a model that is
        not here is an error. on_load is told the bytes of weights placed so far, and of all.
        Raises a TonnageError subclass for everything that can go wrong before the first token.
        """
        machine = read_machine()
        catalogs = open_catalogs(catalog, os.environ)
        source = resolve(model, catalogs=catalogs, offline=offline, progress=progress)
        spec, tokenizer = read_model(source)
        wishes = Wishes(context, threads, precision, concurrency, max_logit_rows)
        plan = make_plan(spec, choose_workload(spec, machine, wishes))
        stated = parse_bytes(memory) if isinstance(memory, str) else memory
        if stated is None:
            # What is resident already is no longer among the bytes that the machine could give.
            require_fit(plan, 0, machine.usable_memory_bytes, "may be used by this process")
        else:
            require_fit(plan, rss_bytes(), stated, "were allowed")
        runtime = Runtime(plan, machine.isa, _with_total(on_load, plan.weight_bytes))
        return cls(plan, runtime, tokenizer, source, spec.context_length)

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

    def encode_prompt(
        self, prompt: str | Sequence[int] | Sequence[Message], *, raw: bool
    ) -> list[int]:
        """Return the token ids of a prompt in any form. Raises RequestError for an empty one."""
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
        tokenizer = self.tokenizer
        if self._template is None:
            self._template = ChatTemplate(tokenizer.chat_template)
        end_id = next(iter(tokenizer.eos_ids)) if len(tokenizer.eos_ids) == 1 else None
        prompt = self._template.render(
            messages,
            bos_token=_text_of(tokenizer, tokenizer.bos_id),
            eos_token=_text_of(tokenizer, end_id),
        )
        return tokenizer.encode(prompt, add_special=False, parse_special=True)

    def close(self) -> None:
        """Give the memory back."""
        self.runtime.close()

    def __enter__(self) -> "Engine":
        """Return the engine itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
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


def _text_of(tokenizer: Tokenizer, token_id: int | None) -> str:
    return "" if token_id is None else tokenizer.token_bytes(token_id).decode("utf-8", "replace")


def _with_total(
    on_load: Callable[[int, int], None] | None, total_bytes: int
) -> Callable[[int], None] | None:
    return None if on_load is None else lambda done_bytes: on_load(done_bytes, total_bytes)
