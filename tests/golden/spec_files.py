"""Specifications of real models as files, so that plans of theirs can be made without weights.

    PYTHONPATH=tests python -m golden.spec_files FOLDER

writes them anew from FOLDER/NAME.gguf, headers only.
"""

import dataclasses
import json
import sys
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from support.layers import attention_of, has_post_norms, layer_of, mlp_of
from tonnage.blocks.attention import Attention
from tonnage.blocks.gated_mlp import GatedMlp
from tonnage.core.block import Layer
from tonnage.core.block_format import BY_NAME
from tonnage.core.checkpoint import TensorEntry
from tonnage.core.model_spec import ModelSpec

FOLDER = Path(__file__).parent / "specs"
NAMES = ("smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")


def to_json(spec: ModelSpec) -> str:
    """Return a specification as JSON: layers that are equal once, weights one to a line."""
    raw = dataclasses.asdict(spec)
    distinct = list(dict.fromkeys(spec.layers))
    raw["layers"] = [_layer_to_json(layer) for layer in distinct]
    raw["layer_order"] = "".join(chr(ord("a") + distinct.index(layer)) for layer in spec.layers)
    raw["weights"] = [
        f"{name} {entry.format.name} {'x'.join(map(str, entry.shape))} {entry.offset}"
        for name, entry in spec.weights.items()
    ]
    return json.dumps(raw, indent=0, sort_keys=True) + "\n"


def from_json(text: str) -> ModelSpec:
    """Return the specification that `to_json` wrote."""
    raw = json.loads(text)
    order = raw.pop("layer_order")
    distinct = [_layer_from_json(layer) for layer in raw.pop("layers")]
    entries = {}
    for line in raw.pop("weights"):
        name, fmt, dims, offset = line.split()
        shape = tuple(map(int, dims.split("x")))
        block = BY_NAME[fmt]
        entries[name] = TensorEntry(name, block, shape, "model", int(offset), block.nbytes(shape))
    spec = _build(ModelSpec, {**raw, "layers": [], "weights": {}})
    layers = tuple(distinct[ord(letter) - ord("a")] for letter in order)
    return dataclasses.replace(spec, layers=layers, weights=entries)


def _layer_to_json(layer: Layer) -> dict[str, Any]:
    blocks = {branch.name: branch.block for branch in layer.branches}
    assert layer == layer_of(blocks["attn"], blocks["mlp"], post_norms=has_post_norms(layer))
    parts = {"attention": attention_of(layer), "mlp": mlp_of(layer)}
    return {
        **{name: dataclasses.asdict(block) for name, block in parts.items()},
        "post_norms": has_post_norms(layer),
    }


def _layer_from_json(raw: dict[str, Any]) -> Layer:
    attention, mlp = _build(Attention, raw["attention"]), _build(GatedMlp, raw["mlp"])
    return layer_of(attention, mlp, post_norms=raw["post_norms"])


def load(name: str) -> ModelSpec:
    """Return the specification of one of NAMES."""
    return from_json((FOLDER / f"{name}.json").read_text())


def _build(kind: Any, value: Any) -> Any:
    """Return `value`, as JSON holds it, as the type `kind`."""
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{key: _build(hints[key], part) for key, part in value.items()})
    origin, args = get_origin(kind), get_args(kind)
    if origin is tuple:
        return tuple(_build(args[0], part) for part in value)
    if origin is dict:
        return {key: _build(args[1], part) for key, part in value.items()}
    if origin in (Union, types.UnionType) and value is not None:
        return _build(next(arg for arg in args if arg is not type(None)), value)
    return value if origin is not Literal else str(value)


def main() -> None:
    """Write all of NAMES from the folder that is given."""
    from tonnage.engine.headers import read_spec
    from tonnage.store.source import ModelSource

    FOLDER.mkdir(exist_ok=True)
    for name in NAMES:
        spec = read_spec(ModelSource(name, Path(sys.argv[1]) / f"{name}.gguf", "gguf"))
        # Neither the path nor the file's own names of tensors are anything to a planner.
        weights = {
            key: dataclasses.replace(entry, name=key, file="model")
            for key, entry in spec.weights.items()
        }
        spec = dataclasses.replace(spec, weights=weights)
        text = to_json(spec)
        again = from_json(text)
        assert (again, again.text) == (spec, spec.text), name
        (FOLDER / f"{name}.json").write_text(text)


if __name__ == "__main__":
    main()
