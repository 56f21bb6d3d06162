"""The plan: the one value that crosses from deciding to doing; it round-trips through JSON."""

import dataclasses
from typing import Literal

from tonnage.core.checkpoint import TensorEntry
from tonnage.core.errors import PlanFileError
from tonnage.core.kv_format import PAGE_FORMATS
from tonnage.core.record import record
from tonnage.core.steps import Embed, GatherLast, Step

Kind = Literal["weight", "kv", "state", "scratch", "host", "load"]
KvFormat = str
KV_FORMATS: tuple[KvFormat, ...] = tuple(one.name for one in PAGE_FORMATS)
OTHER_ENGINES = "other engines"
# Items that belong to the process, not to one engine.
SHARED_ITEMS = ("interpreter and libraries", OTHER_ENGINES, "server")


@record
class Source:
    """Where a tensor lies in a checkpoint: absolute offset in bytes, format by name."""

    file: str
    offset: int
    format: str

    @staticmethod
    def of(entry: TensorEntry) -> "Source":
        """Return where a tensor lies."""
        return Source(entry.file, entry.offset, entry.format.name)


@record
class MatrixPlan:
    """A weight matrix (rows, cols): panels of some rows in the arena, `panel_stride` bytes apart.

    count: of matrices in a stack, as the experts of a layer are, one behind the other.
    """

    name: str
    format: str
    count: int
    rows: int
    cols: int
    offset: int
    panel_stride: int
    nbytes: int
    source: Source


@record
class VectorPlan:
    """A norm weight or bias of `count` elements, stored as float32; `add` is added to each."""

    name: str
    count: int
    offset: int
    nbytes: int
    add: float
    source: Source


@record
class RopePlan:
    """Angles per position at `offset` (float32); `factors` names a vector that divides them.

    attention_factor: of cosines and sines. rule: what the plan's context decided, as words.
    """

    frequencies: tuple[float, ...]
    offset: int
    factors: str | None
    attention_factor: float = 1.0
    rule: str = ""


@record
class KvLayerPlan:
    """One layer's part of every page of its group: K and V of 64 positions of its heads.

    Page p's part lies at offset + p * page_stride; a page holds the parts of its group's layers.
    """

    group: int
    offset: int
    page_stride: int
    num_heads: int
    k_dim: int
    v_dim: int


@record
class KvGroupPlan:
    """A pool of pages, page_stride bytes each from `offset` on, for layers that see equally far.

    Ids 0..num_pages-1 hold in all of its layers. window: how many last positions its layers see
    at most, so that pages entirely before them may go; 0: they see everything.
    """

    window: int
    num_pages: int
    page_stride: int
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of all pages."""
        return self.num_pages * self.page_stride


@record
class KvPlan:
    """The KV cache: pages of `page_tokens` positions in groups; a sequence has a table for each.

    groups[0] has window 0; layers: in the model's order.
    """

    format: KvFormat
    page_tokens: int
    nbytes: int
    groups: tuple[KvGroupPlan, ...]
    layers: tuple[KvLayerPlan, ...]


@record
class SlotBlockPlan:
    """One block's part of every slot: `elements` float32 from `offset` of the slot on."""

    offset: int
    elements: int


@record
class SlotPlan:
    """State per sequence, such as that of recurrent blocks.

    Slot s lies at offset + s * stride: 0..num_slots-1 are of running sequences, those behind them
    snapshots. blocks: in the model's order; without any there are no slots.
    """

    num_slots: int
    num_snapshots: int
    stride: int
    offset: int
    blocks: tuple[SlotBlockPlan, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all slots and snapshots."""
        return (self.num_slots + self.num_snapshots) * self.stride


@record
class Buffer:
    """Scratch in the arena; it may share bytes with buffers that live in other steps of a layer."""

    name: str
    offset: int
    nbytes: int


@record
class Item:
    """A line of the ledger; those of kind `weight`, `kv`, `state` and `scratch` tile the arena."""

    name: str
    kind: Kind
    planned_bytes: int


@record
class Plan:
    """Everything the doing half needs; offsets are bytes from the start of the arena.

    Two buffers outlast their steps: `logits`, float32 [max_logit_rows][vocab_size], and `pooled`,
    sums of hidden states, float64 [concurrency][d_model]. panel_rows: rows of a matrix that one
    thread multiplies with together. pass_queries: queries that share a pass over keys and values.
    """

    family: str
    vocab_size: int
    d_model: int
    threads: int
    context_tokens: int
    concurrency: int
    max_rows: int
    max_logit_rows: int
    panel_rows: int
    pass_queries: int
    matrices: tuple[MatrixPlan, ...]
    vectors: tuple[VectorPlan, ...]
    ropes: tuple[RopePlan, ...]
    kv: KvPlan
    slots: SlotPlan
    buffers: tuple[Buffer, ...]
    steps: tuple[Step, ...]
    arena_bytes: int
    items: tuple[Item, ...]

    @property
    def total_bytes(self) -> int:
        """What the whole process may come to: all items at once."""
        return sum(item.planned_bytes for item in self.items)

    @property
    def own_bytes(self) -> int:
        """What the model may come to once it is loaded, without what the process shares."""
        own = (item for item in self.items if item.name not in SHARED_ITEMS)
        return sum(item.planned_bytes for item in own if item.kind != "load")

    @property
    def load_bytes(self) -> int:
        """What loading takes beside `own_bytes`."""
        return sum(item.planned_bytes for item in self.items if item.kind == "load")

    @property
    def weight_bytes(self) -> int:
        """Bytes of all matrices and vectors as they lie in the arena."""
        return sum(m.nbytes for m in self.matrices) + sum(v.nbytes for v in self.vectors)

    @property
    def weight_bytes_per_token(self) -> int:
        """Weight bytes that one decoded token reads: all but a table that is only looked up."""
        skipped = self._tables - self._multiplied(self.steps)
        return self.weight_bytes - sum(m.nbytes for m in self.matrices if m.name in skipped)

    @property
    def macs_per_row(self) -> int:
        """Multiply-adds of the weight matrices that every row of a prompt runs through."""
        skipped = self._multiplied(self._late_steps) | self._tables
        return sum(m.count * m.rows * m.cols for m in self.matrices if m.name not in skipped)

    @property
    def late_macs_per_row(self) -> int:
        """Multiply-adds behind `GatherLast`, of rows with logits: most of a layer, the head."""
        late = self._multiplied(self._late_steps)
        return sum(m.count * m.rows * m.cols for m in self.matrices if m.name in late)

    @property
    def _tables(self) -> set[str]:
        return {step.table for step in self.steps if isinstance(step, Embed)}

    @property
    def _late_steps(self) -> tuple[Step, ...]:
        gathers = (i for i, step in enumerate(self.steps) if isinstance(step, GatherLast))
        return self.steps[next(gathers, len(self.steps)) :]

    @staticmethod
    def _multiplied(steps: tuple[Step, ...]) -> set[str]:
        return {name for step in steps for name in step.weights}

    def buffer(self, name: str) -> Buffer:
        """Return the scratch of that name; KeyError where there is none."""
        for buffer in self.buffers:
            if buffer.name == name:
                return buffer
        raise KeyError(name)

    def to_json(self) -> str:
        """Return the plan as JSON, the same text for the same plan."""
        import json

        raw = dataclasses.asdict(self)
        raw["steps"] = [{"op": step.op, **dataclasses.asdict(step)} for step in self.steps]
        return json.dumps(raw, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> "Plan":
        """Return the plan that `to_json` wrote.

        Only the types are checked. Raises PlanFileError for text that is no plan.
        """
        import json

        # Only for plans from files: a run that plans needs none of it.
        from tonnage.core.from_json import decode

        try:
            return decode(Plan, json.loads(text), "plan")
        except (ValueError, RecursionError) as error:
            raise PlanFileError(f"This is no plan: {str(error)[:200]}.") from error
