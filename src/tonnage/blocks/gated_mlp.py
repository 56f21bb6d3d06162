"""The gated MLP (Shazeer 2020): down(activation(gate(x)) * up(x))."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tonnage.core.block import Block, BlockContext, Shape
from tonnage.core.operands import ProductPart
from tonnage.core.steps import Activation, Gated, Step


@dataclass(frozen=True, slots=True)
class GatedMlp(Block):
    """Tensors gate, up and down, with `hidden` inner elements."""

    hidden: int
    activation: Activation = "silu"

    inputs: ClassVar[tuple[str, ...]] = ("gate", "up")
    units: ClassVar[tuple[tuple[str, ...], ...]] = (("gate", "up"), ("down",))
    sensitivity: ClassVar[Mapping[str, float]] = {"gate": 1.93, "up": 1.93, "down": 2.83}

    def tensors(self, d_model: int) -> dict[str, Shape]:
        """Return role -> shape."""
        inner = (self.hidden, d_model)
        return {"gate": inner, "up": inner, "down": (d_model, self.hidden)}

    def lower(self, at: BlockContext) -> list[Step]:
        """Return one sweep over gate and up, and the product down."""
        normed = at.activations("normed", at.d_model, self.inputs)
        inner = at.activations("inner", self.hidden, ("down",))
        gated = Gated(at.name("gate"), at.name("up"), normed, inner, self.activation)
        return [gated, at.output(ProductPart(at.name("down"), None, 0), inner)]
