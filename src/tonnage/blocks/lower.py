"""Lowering a model: its blocks' steps, one after another, with the norms between them."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from operator import attrgetter

from tonnage.blocks.embedding import embedding_steps
from tonnage.blocks.head import head_name, head_steps
from tonnage.core.block import Branch
from tonnage.core.block_format import FLOAT_FORMATS
from tonnage.core.model_spec import ModelSpec
from tonnage.core.operands import Activations, NormKind, ProductPart
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
    added = None
    for group in _in_parallel(places):
        steps.append(chain.into(group, added))
        for place in group:
            steps += place.branch.block.lower(place)
        added = group[-1].post_norm
    norm = chain.before_head(added)
    return (*steps, norm, *head_steps(spec, norm, max_logit_rows, concurrency))


@dataclass(frozen=True)
class _Place:
    """A branch where it stands; see `tonnage.core.block.BlockContext`.

    later: branches in parallel behind it, which read what it reads.
    """

    spec: ModelSpec
    chain: "_Chain"
    prefix: str
    branch: Branch
    kv_format: str
    state_index: int
    is_last_state: bool
    later: tuple[Branch, ...]

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
        post_norm = self.branch.post_norm
        return Matmul(
            (part,),
            source,
            out="branch" if post_norm else "x",
            out_cols=self.d_model,
            accumulate=not post_norm,
            scale=self.branch.scale,
        )

    def gather_last(self, *buffers: tuple[str, int]) -> list[Step]:
        if not self.is_last_state:
            return []
        roles = tuple(role for branch in self.later for role in branch.block.inputs)
        kept = self.activations("normed", self.d_model, roles) if roles else None
        return [GatherLast((("x", self.d_model), *buffers), kept)]


def _places(spec: ModelSpec, chain: "_Chain", kv_format: str) -> list[_Place]:
    branches = spec.branches
    states = [branch.block.state for _, branch in branches]
    last = max((i for i, state in enumerate(states) if state is not None), default=-1)
    seen: Counter[type] = Counter()
    places = []
    for i, ((prefix, branch), state) in enumerate(zip(branches, states, strict=True)):
        index = -1 if state is None else seen[type(state)]
        seen[type(state)] += 1
        later = tuple(takewhile(attrgetter("parallel"), (b for _, b in branches[i + 1 :])))
        places.append(_Place(spec, chain, prefix, branch, kv_format, index, i == last, later))
    return places


def _in_parallel(places: Sequence[_Place]) -> Iterator[Sequence[_Place]]:
    """Yield runs of branches that read the same input: most of one branch."""
    begin = 0
    while begin < len(places):
        end = begin + 1 + len(places[begin].later)
        yield places[begin:end]
        begin = end


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

    def into(self, group: Sequence[_Place], added: str | None) -> Norm:
        """Return what makes the input of branches; added: the post norm of the branch before."""
        first = group[0]
        consumers = tuple(place.name(role) for place in group for role in place.branch.block.inputs)
        out = self.activations("normed", self.spec.d_model, consumers)
        weight = first.name(f"{first.branch.name}_norm") if first.branch.pre_norm else None
        return self._norm(weight, first.branch.norm, added, out)

    def before_head(self, added: str | None) -> Norm:
        """Return what makes the input of the head."""
        return self._norm("final_norm", self.spec.norm, added, self.head_input, gather=True)

    def _norm(
        self,
        weight: str | None,
        kind: NormKind,
        added: str | None,
        out: Activations,
        *,
        gather: bool = False,
    ) -> Norm:
        return Norm(
            x="x",
            weight=weight,
            added=None if added is None else "branch",
            added_weight=added,
            eps=self.spec.norm_eps,
            out=out,
            gather=gather,
            centred=weight is not None and kind != "rms",
            bias=f"{weight}_bias" if weight is not None and kind == "biased layer" else None,
        )
