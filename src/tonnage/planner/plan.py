"""(ModelSpec, Workload) -> Plan: pure, deterministic, nothing but arithmetic."""

from dataclasses import dataclass

from tonnage.core.block_format import BY_NAME
from tonnage.core.errors import UnsupportedModelError
from tonnage.core.footprint import (
    SAMPLER_TOKEN_BYTES,
    TEMPLATE_BYTES,
    THREAD_STACK_BYTES,
    interpreter_bytes,
    tokenizer_bytes,
)
from tonnage.core.layout import (
    FLOAT_FORMATS,
    MAX_GROUP_HEADS,
    MAX_STEP_ROWS,
    PAGE_TOKENS,
    PANEL_ROWS,
    WORKER_SCRATCH_BYTES,
    acts_bytes,
    round_up,
)
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import Item, Plan, RopePlan
from tonnage.planner.lower import Lowering
from tonnage.planner.place import Cursor, WeightPlacer, place_kv, place_weights
from tonnage.planner.scratch import Need, share_bytes

HUGE_PAGE_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Workload:
    """What is to be run: positions per sequence, sequences at once, rows per step, threads.

    precision: None keeps the checkpoint's formats, `8bit` and `4bit` quantize float matrices while
    loading. resident_bytes: what the process holds already, 0 for one that is to be started.
    server_bytes, server_token_bytes: what an HTTP server in it may come to, and that for each token
    of the vocabulary.
    """

    context_tokens: int
    threads: int
    concurrency: int = 1
    max_rows: int = MAX_STEP_ROWS
    max_logit_rows: int = 1
    precision: str | None = None
    resident_bytes: int = 0
    server_bytes: int = 0
    server_token_bytes: int = 0


def make_plan(spec: ModelSpec, workload: Workload) -> Plan:
    """Return the plan of `spec` for `workload`.

    Raises UnsupportedModelError when the model's sizes have no kernel.
    """
    check_sizes(spec)
    cursor = Cursor()
    placer = WeightPlacer(spec, _formats(spec, workload.precision), cursor)
    place_weights(placer)
    ropes = _place_ropes(spec, cursor)
    weights_end = cursor.take(0, HUGE_PAGE_BYTES)
    pages = workload.concurrency * (round_up(workload.context_tokens, PAGE_TOKENS) // PAGE_TOKENS)
    kv = place_kv(spec, pages, cursor)
    kv_end = cursor.take(0, HUGE_PAGE_BYTES)
    buffers = share_bytes(_needs(spec, workload), kv_end)
    end = max(b.offset + b.nbytes for b in buffers)
    offsets = {b.name: b.offset for b in buffers}
    lowering = Lowering(spec, placer, kv, ropes, offsets, workload.max_logit_rows)
    return Plan(
        family=spec.family,
        vocab_size=spec.vocab_size,
        d_model=spec.d_model,
        threads=workload.threads,
        context_tokens=workload.context_tokens,
        concurrency=workload.concurrency,
        max_rows=workload.max_rows,
        max_logit_rows=workload.max_logit_rows,
        matrices=tuple(placer.matrices.values()),
        vectors=tuple(placer.vectors.values()),
        ropes=ropes,
        kv=kv,
        buffers=buffers,
        steps=lowering.steps(),
        logits_offset=offsets["logits"],
        arena_bytes=end,
        items=_items(spec, workload, placer, (weights_end, kv_end, end)),
    )


def check_sizes(spec: ModelSpec) -> None:
    """Raise UnsupportedModelError, naming every size that the kernels cannot handle."""
    wrong = []
    if spec.d_model % 32:
        wrong.append(f"the model width {spec.d_model} is no multiple of 32")
    for i, layer in enumerate(spec.layers):
        a = layer.attention
        if a.k_dim % 16 or a.v_dim % 16 or max(a.k_dim, a.v_dim) > 512:
            wrong.append(
                f"layer {i} has heads of {a.k_dim} and {a.v_dim}, not multiples of 16 up to 512"
            )
        if a.num_heads % a.num_kv_heads or a.num_heads > MAX_GROUP_HEADS * a.num_kv_heads:
            wrong.append(f"layer {i} has {a.num_heads} query heads over {a.num_kv_heads} key heads")
        if layer.mlp.hidden % 32 or a.num_heads * a.v_dim % 32:
            wrong.append(
                f"layer {i} has inner sizes {layer.mlp.hidden} and {a.num_heads * a.v_dim}"
            )
    if wrong:
        raise UnsupportedModelError("No kernel fits this model: " + "; ".join(wrong[:8]) + ".")


def _formats(spec: ModelSpec, precision: str | None) -> dict[str, str]:
    if precision is None:
        return {}
    small = {"8bit": "Q8_0", "4bit": "Q4_1"}[precision]
    formats = {}
    for name, entry in spec.weights.items():
        if len(entry.shape) == 2 and entry.format.name in FLOAT_FORMATS:
            # Embedding and head are the most sensitive to 4 bits.
            formats[name] = "Q8_0" if name in ("embed", "head") else small
    return formats


def _place_ropes(spec: ModelSpec, cursor: Cursor) -> tuple[RopePlan, ...]:
    ropes = []
    for i, rope in enumerate(spec.ropes):
        frequencies = rope.inverse_frequencies()
        factors = "rope_factors" if i == 0 and "rope_factors" in spec.weights else None
        ropes.append(RopePlan(frequencies, cursor.take(4 * len(frequencies)), factors))
    return tuple(ropes)


# The steps of a layer in which scratch lives: 0 norm, 1 qkv, 2 rotate, 3 attend, 4 quantize,
# 5 output product, 6 norm, 7 gated, 8 down, 9 norm, 10 head.
_ALWAYS = (0, 10)


def _needs(spec: ModelSpec, workload: Workload) -> list[Need]:
    rows = workload.max_rows
    attentions = [layer.attention for layer in spec.layers]
    qkv = max(a.num_heads * a.k_dim + a.num_kv_heads * (a.k_dim + a.v_dim) for a in attentions)
    attended = max(a.num_heads * a.v_dim for a in attentions)
    hidden = max(layer.mlp.hidden for layer in spec.layers)
    floats = any(
        len(w.shape) == 2 and w.format.name in FLOAT_FORMATS for w in spec.weights.values()
    ) and workload.precision is None  # fmt: skip
    needs = [
        Need("x", 4 * rows * spec.d_model, *_ALWAYS),
        Need("normed_codes", acts_bytes(rows, spec.d_model), *_ALWAYS),
        Need("qkv", 4 * rows * qkv, 1, 3),
        Need("attended_values", 4 * rows * attended, 3, 5),
        Need("attended_codes", acts_bytes(rows, attended), 4, 5),
        Need("inner_codes", acts_bytes(rows, hidden), 7, 8),
        Need("logits", 4 * workload.max_logit_rows * spec.vocab_size, 10, 10),
    ]
    if floats:
        needs.append(Need("normed_values", 4 * rows * spec.d_model, *_ALWAYS))
        needs.append(Need("inner_values", 4 * rows * hidden, 7, 8))
    if any(layer.post_norms for layer in spec.layers):
        needs.append(Need("branch", 4 * rows * spec.d_model, 5, 9))
    for i, rope in enumerate(spec.ropes):
        needs.append(Need(f"rope{i}", 4 * rows * rope.dim, *_ALWAYS))
    return needs


def _items(
    spec: ModelSpec, workload: Workload, placer: WeightPlacer, ends: tuple[int, int, int]
) -> tuple[Item, ...]:
    """Return every item of the process; ends: of weights, KV pages and scratch in the arena."""
    weights_end, kv_end, arena_end = ends
    threads = workload.threads
    server_bytes = workload.server_bytes + workload.server_token_bytes * spec.vocab_size
    server = (Item("server", "host", server_bytes),) if server_bytes else ()
    return (
        Item("weights", "weight", weights_end),
        Item("kv pages", "kv", kv_end - weights_end),
        Item("step scratch", "scratch", arena_end - kv_end),
        Item("thread scratch", "host", threads * (WORKER_SCRATCH_BYTES + THREAD_STACK_BYTES)),
        Item("load buffers", "load", _load_bytes(placer, threads)),
        Item("tokenizer", "host", tokenizer_bytes(spec.vocab_size)),
        Item("sampler", "host", SAMPLER_TOKEN_BYTES * spec.vocab_size * workload.concurrency),
        Item("chat template", "host", TEMPLATE_BYTES),
        Item("interpreter and libraries", "host", interpreter_bytes(workload.resident_bytes)),
        *server,
    )


def _load_bytes(placer: WeightPlacer, threads: int) -> int:
    """Return the most that loading one matrix takes: 32 rows per thread, and those they copy."""
    most = 0
    for matrix in placer.matrices.values():
        source, target = BY_NAME[matrix.source.format], BY_NAME[matrix.format]
        staging = PANEL_ROWS * source.nbytes((matrix.cols,))
        if source != target:
            staging += 4 * matrix.cols + PANEL_ROWS * target.nbytes((matrix.cols,))
        most = max(most, staging)
    # Every vector is held as read and as float32 before it is written.
    return (threads + 1) * most + 2 * sum(v.nbytes for v in placer.vectors.values())
