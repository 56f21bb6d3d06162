"""A model's headers and tokenizer, whatever form it comes in; never its weights."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tonnage.core.errors import FileFormatError
from tonnage.core.model_spec import ModelSpec
from tonnage.core.units import format_bytes
from tonnage.models.registry import spec_from_gguf, spec_from_hf
from tonnage.store.source import ModelSource
from tonnage.text.facts import facts_of_folder, facts_of_gguf
from tonnage.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tonnage.formats.gguf import GgufFile

_CONFIG_LIMIT_BYTES = 1 << 20


def read_spec(source: ModelSource) -> ModelSpec:
    """Read the headers of a model; neither weights nor tokenizer, whose size is counted."""
    if source.form == "gguf":
        from tonnage.formats.gguf import GgufFile

        with GgufFile.open(str(source.path)) as file:
            return _spec_of(file)
    from tonnage.formats.safetensors import open_safetensors
    from tonnage.models.sentence_transformers import pooling_of_folder

    folder = source.path
    spec = spec_from_hf(read_config(folder / "config.json"), open_safetensors(folder))
    trained = pooling_of_folder(lambda name: _read_beside(folder, name))
    return replace(
        spec,
        pooling=trained.kind,
        unmet_pooling=trained.unmet,
        text=facts_of_folder(folder),
    )


def _spec_of(file: "GgufFile") -> ModelSpec:
    spec = spec_from_gguf(file.metadata, file.catalog)
    return replace(spec, text=facts_of_gguf(file.metadata))


def read_model(source: ModelSource) -> tuple[ModelSpec, Tokenizer]:
    """Read the headers of a model and its tokenizer; no weights."""
    if source.form == "gguf":
        from tonnage.formats.gguf import GgufFile

        with GgufFile.open(str(source.path)) as file:
            spec = _spec_of(file)
            return spec, Tokenizer.from_gguf(file.metadata, spec.vocab_size)
    spec = read_spec(source)
    return spec, Tokenizer.from_folder(source.path, spec.vocab_size)


def read_config(path: Path) -> dict[str, Any]:
    """Return a model's config.json. Raises FileFormatError when it is no JSON object."""
    config = _read_json(path)
    if not isinstance(config, dict):
        raise FileFormatError(f"{path} holds no JSON object; download it again.")
    return config


def _read_beside(folder: Path, name: str) -> object:
    """Return a JSON file of a model's folder, None where there is none."""
    path = folder / name
    return _read_json(path) if path.is_file() else None


def _read_json(path: Path) -> object:
    import json

    if path.stat().st_size > _CONFIG_LIMIT_BYTES:
        raise FileFormatError(f"{path} is larger than {format_bytes(_CONFIG_LIMIT_BYTES)}.")
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is not valid JSON ({error}); download it again.") from error
