"""A block with a state per sequence, the smallest there is: a sum that decays, then a product.

No model has it. It stands for recurrent blocks: the reference backend of the tests runs it, so that
slots, snapshots and rollback are tried at the whole engine.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from tonnage.backends.reference.operations import Operations
from tonnage.backends.reference.runtime import ReferenceRuntime
from tonnage.core.block import Block, BlockContext, Branch, Layer, Shape, SlotState
from tonnage.core.block_format import F32
from tonnage.core.checkpoint import TensorEntry
from tonnage.core.model_spec import ModelSpec
from tonnage.core.operands import Activations, Area, ProductPart
from tonnage.core.operation import Operation

DECAY = 0.75


@dataclass(frozen=True, slots=True)
class Decay(Operation):
    """state = DECAY * state + x for each row in turn; out = the state behind each row."""

    op: ClassVar[str] = "decay"
    x: Activations
    state: int
    out: str

    @property
    def reads(self) -> tuple[str, ...]:
        return self.x.names

    @property
    def writes(self) -> tuple[Area, ...]:
        return (Area(self.out, self.x.cols),)

    @property
    def elements(self) -> int:
        return self.x.cols


@dataclass(frozen=True, slots=True)
class DecayedSum(Block):
    """Tensor mix: (d_model, d_model)."""

    width: int

    inputs: ClassVar[tuple[str, ...]] = ("mix",)
    units: ClassVar[tuple[tuple[str, ...], ...]] = (("mix",),)
    sensitivity: ClassVar[Mapping[str, float]] = {"mix": 1.0}

    def tensors(self, d_model: int) -> dict[str, Shape]:
        return {"mix": (d_model, d_model)}

    @property
    def state(self) -> SlotState:
        return SlotState(self.width)

    def lower(self, at: BlockContext) -> list:
        normed = at.activations("normed", at.d_model, self.inputs)
        decayed = replace(normed, buffer="decayed", codes=False, values=True)
        steps = [Decay(normed, at.state_index, "decayed_values")]
        return [*steps, at.output(ProductPart(at.name("mix"), None, 0), decayed)]


class DecayRuntime(ReferenceRuntime):
    """The reference runtime, which knows `Decay` beside the product's operations."""

    def run_operation(self, run: Operations, step: Operation) -> None:
        if not isinstance(step, Decay):
            super().run_operation(run, step)
            return
        values = run.buffers[step.x.names[0]]
        out = np.zeros_like(values)
        for row, span, _ in run.rows():
            state = self.block_states(step.state, span.slot)
            state[:] = DECAY * state + values[row]
            out[row] = state
        run.buffers[step.out] = out


def with_decayed_sums(spec: ModelSpec, path: Path) -> ModelSpec:
    """Return `spec` with a decayed sum in place of each second MLP; their weights go to `path`."""
    rng = np.random.default_rng(4)
    layers, weights = [], dict(spec.weights)
    for index, layer in enumerate(spec.layers):
        attention, mlp = layer.branches
        if index % 2:
            for role in mlp.block.tensors(spec.d_model):
                del weights[f"layers.{index}.{role}"]
            mix = rng.normal(size=(spec.d_model, spec.d_model)).astype(np.float32)
            name, offset = f"layers.{index}.mix", path.stat().st_size if path.exists() else 0
            with path.open("ab") as file:
                file.write((mix / np.sqrt(spec.d_model)).astype(np.float32).tobytes())
            weights[name] = TensorEntry(name, F32, mix.shape, str(path), offset, mix.nbytes)
            layer = Layer((attention, Branch("mlp", DecayedSum(spec.d_model))))
        layers.append(layer)
    return replace(spec, layers=tuple(layers), weights=weights)
