"""Lowering a model: its blocks' steps, one after another, with the norms between them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from tonnage.blocks.embedding import embedding_steps
from tonnage.blocks.head import head_name, head_steps
from tonnage.core.block import Branch
from tonnage.core.block_format import FLOAT_FORMATS
from tonnage.core.model_spec import ModelSpec
from tonnage.core.operands import Activations, ProductPart
from tonnage.core.rope import RopeSpec
from tonnage.core.steps import GatherLast, Matmul, Norm, Step

FormatOf = Callable[[str], str]


def lowered(
    spec: ModelSpec, format_of: FormatOf, kv_format: str, max_logit_rows: int, concurrency: int
) -> tuple[Step, ...]:
    """Return the whole forward pass of `spec`.

    format_of: canonical name of a matrix -> its format when loaded. max_logit_rows, concurrency:
    the most rows of logits, and of sums of hidden states.
    """
    chain = _Chain(spec, format_of)
    steps: list[Step] = embedding_steps(spec)
    places = _places(spec, chain, kv_format)
    for place, following in zip(places, [*places[1:], None], strict=True):
        if place is places[0]:
            steps += chain.into(place.prefix, place.branch, None)
        steps += place.branch.block.lower(place)
        steps += chain.after(place, following)
    last = places[-1]
    return (
        *steps,
        *head_steps(spec, chain.head_input, last.post_norm, max_logit_rows, concurrency),
    )


@dataclass(frozen=True)
class _Place:
    """A branch where it stands; see `tonnage.core.block.BlockContext`."""

    spec: ModelSpec
    chain: "_Chain"
    prefix: str
    branch: Branch
    kv_format: str
    state_index: int
    is_last_state: bool

    @property
    def d_model(self) -> int:
        return self.spec.d_model

    @property
    def norm_eps(self) -> float:
        return self.spec.norm_eps

    @property
    def post_norm(self) -> str | None:
        """The norm of the block's result, if it has one."""
        return self.name(f"post_{self.branch.name}_norm") if self.branch.post_norm else None

    def name(self, role: str) -> str:
        return self.prefix + role

    def activations(self, buffer: str, cols: int, consumers: tuple[str, ...]) -> Activations:
        return self.chain.activations(buffer, cols, tuple(map(self.name, consumers)))

    def rope(self, index: int) -> RopeSpec:
        return self.spec.ropes[index]

    def output(self, part: ProductPart, source: Activations) -> Matmul:
        target = "branch" if self.branch.post_norm else "x"
        return Matmul((part,), source, target, self.d_model, accumulate=not self.branch.post_norm)

    def gather_last(self, *buffers: tuple[str, int]) -> list[Step]:
        return [GatherLast((("x", self.d_model), *buffers))] if self.is_last_state else []


def _places(spec: ModelSpec, chain: "_Chain", kv_format: str) -> list[_Place]:
    branches = spec.branches
    states = [branch.block.state for _, branch in branches]
    last = max((i for i, state in enumerate(states) if state is not None), default=-1)
    seen: Counter[type] = Counter()
    places = []
    for i, ((prefix, branch), state) in enumerate(zip(branches, states, strict=True)):
        index = -1 if state is None else seen[type(state)]
        seen[type(state)] += 1
        places.append(_Place(spec, chain, prefix, branch, kv_format, index, i == last))
    return places


@dataclass(frozen=True)
class _Chain:
    """The norms between branches: each adds what the branch before gave, and norms for the next."""

    spec: ModelSpec
    format_of: FormatOf

    def activations(self, buffer: str, cols: int, consumers: tuple[str, ...]) -> Activations:
        """Return activations in the forms that their consumers read."""
        formats = {self.format_of(name) for name in consumers}
        codes, values = bool(formats - FLOAT_FORMATS), bool(formats & FLOAT_FORMATS)
        return Activations(buffer, cols, codes, values)

    @property
    def head_input(self) -> Activations:
        """What the head reads."""
        return self.activations("normed", self.spec.d_model, (head_name(self.spec),))

    def into(self, prefix: str, branch: Branch, added: str | None) -> list[Step]:
        """Return what makes the input of `branch`; added: the post norm of the branch before."""
        consumers = tuple(prefix + role for role in branch.block.inputs)
        out = self.activations("normed", self.spec.d_model, consumers)
        weight = f"{prefix}{branch.name}_norm" if branch.pre_norm else None
        return [self._norm(weight, added, out)]

    def after(self, place: _Place, following: _Place | None) -> list[Step]:
        """Return what stands between a branch and the next one, or the head."""
        if following is not None:
            return self.into(following.prefix, following.branch, place.post_norm)
        return [self._norm("final_norm", place.post_norm, self.head_input, gather=True)]

    def _norm(
        self, weight: str | None, added: str | None, out: Activations, *, gather: bool = False
    ) -> Norm:
        buffer = None if added is None else "branch"
        return Norm("x", weight, buffer, added, self.spec.norm_eps, out, gather)
