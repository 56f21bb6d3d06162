"""What a model is, told from its headers and its tokenizer: for people who choose one."""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Literal

from tonnage.core.errors import TonnageError
from tonnage.core.model_spec import ModelSpec
from tonnage.core.record import record
from tonnage.engine.headers import read_model
from tonnage.store.identity import model_files
from tonnage.store.source import ModelSource

_README_BYTES = 64 << 10


@record
class FormatShare:
    """The tensors of one block format: how many, with how many elements, in how many bytes."""

    format: str
    num_tensors: int
    num_elements: int
    num_bytes: int


@record
class ModelFacts:
    """Facts about one model.

    kind: base or instruct, as its catalog states it, else by whether it has a chat template; None
    where it writes no text. licence, title: as its files state them, empty where they do not.
    file_bytes: of all files that it consists of. formats: of its tensors, the most bytes first.
    """

    name: str
    path: Path
    title: str
    family: str
    kind: Literal["base", "instruct"] | None
    licence: str
    num_parameters: int
    num_layers: int
    d_model: int
    vocab_size: int
    context_length: int
    template_chars: int | None
    file_bytes: int
    formats: tuple[FormatShare, ...]


def model_facts(
    source: ModelSource, kind: Literal["base", "instruct"] | None = None, licence: str = ""
) -> ModelFacts:
    """Return the facts about a model. kind, licence: of its catalog, where that has it.

    Raises a TonnageError subclass for a file that is not understood.
    """
    spec, tokenizer = read_model(source)
    template = tokenizer.chat_template
    formats = _formats(spec)
    told = _metadata(source)
    by_template: Literal["base", "instruct"] = "base" if template is None else "instruct"
    return ModelFacts(
        name=source.name,
        path=source.path,
        title=told.get("general.name", ""),
        family=spec.family,
        kind=(kind or by_template) if spec.has_head else None,
        licence=licence or told.get("general.license", ""),
        num_parameters=sum(one.num_elements for one in formats),
        num_layers=len(spec.layers),
        d_model=spec.d_model,
        vocab_size=spec.vocab_size,
        context_length=spec.context_length,
        template_chars=None if template is None else len(template),
        file_bytes=sum(file.stat().st_size for file in model_files(source.path)),
        formats=formats,
    )


def kind_of_file(path: Path) -> Literal["base", "instruct"] | None:
    """Return what a GGUF file is by its chat template; None for one that cannot be read."""
    from tonnage.formats.gguf import GgufFile

    try:
        with GgufFile.open(str(path)) as file:
            return "instruct" if "tokenizer.chat_template" in file.metadata else "base"
    except (TonnageError, OSError):
        return None


def _formats(spec: ModelSpec) -> tuple[FormatShare, ...]:
    # One tensor of a file may have several names here.
    entries = {(one.file, one.offset): one for one in spec.weights.values()}.values()
    shares: dict[str, FormatShare] = {}
    for one in entries:
        before = shares.get(one.format.name, FormatShare(one.format.name, 0, 0, 0))
        shares[one.format.name] = FormatShare(
            one.format.name,
            before.num_tensors + 1,
            before.num_elements + prod(one.shape),
            before.num_bytes + one.nbytes,
        )
    return tuple(sorted(shares.values(), key=lambda share: -share.num_bytes))


def _metadata(source: ModelSource) -> Mapping[str, str]:
    """Return the texts of a GGUF header, or what the head of a folder's README says."""
    if source.form == "gguf":
        from tonnage.formats.gguf import GgufFile

        with GgufFile.open(str(source.path)) as file:
            return {key: text for key, text in file.metadata.items() if isinstance(text, str)}
    try:
        head = (source.path / "README.md").read_bytes()[:_README_BYTES].decode("utf-8", "replace")
    except OSError:
        return {}
    lines = head.split("\n---")[0].splitlines() if head.startswith("---") else []
    stated = [line.removeprefix("license:") for line in lines if line.startswith("license:")]
    return {"general.license": stated[0].strip()} if stated else {}
