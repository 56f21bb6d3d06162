"""Native entries refuse what does not fit, in a sentence, and survive it."""

from collections.abc import Callable
from threading import Thread
from typing import Any

import pytest

from tonnage._native import Arena, Executor, InputError, Program, acts_bytes, best_isa
from tonnage.backends.cpu.layout import sizes
from tonnage.core.block_format import Q4_K, Q8_0

ARENA_BYTES = 1 << 20
Q8_MATRIX = (0, Q8_0.ggml_type, 64, 64, sizes.panel_bytes(Q8_0, 64))
CODES = (1 << 16, -1, 64)
BOTH = (1 << 16, 1 << 17, 64)
KV = (1 << 18, 1 << 14, 2, 32, 32, "f16", 0)
OUT = 1 << 19

NORM: dict[str, Any] = {
    "x": 0, "weight": 0, "added": -1, "added_weight": -1, "eps": 0.0, "out": BOTH, "gather": False,
}  # fmt: skip
MATMUL: dict[str, Any] = {
    "parts": [(Q8_MATRIX, -1, 0)], "input": CODES, "out": OUT, "out_stride": 64, "out_rows": 4,
    "cap": 0.0, "accumulate": False, "gather": False,
}  # fmt: skip
GATED: dict[str, Any] = {
    "gate": Q8_MATRIX, "up": Q8_MATRIX, "input": CODES, "out": BOTH, "activation": "silu",
}  # fmt: skip
QK_NORM: dict[str, Any] = {
    "qkv": 0, "cols": 256, "q_cols": 128, "k_cols": 64, "q_norm": OUT, "k_norm": OUT, "eps": 0.0,
}  # fmt: skip
ROPE_KV_WRITE: dict[str, Any] = {
    "qkv": 0, "num_heads": 4, "kv": KV, "q_norm": -1, "k_norm": -1, "eps": 0.0, "scale": 1.0,
    "table": OUT, "pairs": 16, "interleaved": False,
}  # fmt: skip
ATTEND: dict[str, Any] = {
    "qkv": 0, "num_heads": 4, "kv": KV, "window": 0, "softcap": 0.0, "out": OUT,
}  # fmt: skip
GATHER_LAST: dict[str, Any] = {"x": 0, "x_cols": 64, "qkv": OUT, "qkv_cols": 256}
EMBED: dict[str, Any] = {"table": Q8_MATRIX, "scale": 1.0, "x": OUT}
ROPE: dict[str, Any] = {"frequencies": 0, "pairs": 16, "table": OUT}
QUANTIZE: dict[str, Any] = {"x": 0, "out": BOTH}
POOL_HIDDEN: dict[str, Any] = {
    "x": 0, "weight": 0, "added": -1, "added_weight": -1, "eps": 0.0, "cols": 64, "sums": OUT,
    "slots": 2,
}  # fmt: skip
OPS = {
    "embed": EMBED, "rope_table": ROPE, "norm": NORM, "matmul": MATMUL, "gated": GATED,
    "qk_norm": QK_NORM, "rope_kv_write": ROPE_KV_WRITE, "gather_last": GATHER_LAST,
    "attend": ATTEND, "quantize": QUANTIZE, "pool_hidden": POOL_HIDDEN,
}  # fmt: skip


def matrix(**changes: int) -> tuple[int, ...]:
    """Return the matrix of these tests with some fields replaced."""
    names = ("offset", "layout", "rows", "cols", "stride")
    return tuple(({**dict(zip(names, Q8_MATRIX, strict=True)), **changes}).values())


HUGE = 1 << 62
BAD_MATRICES = {
    "is unknown": matrix(layout=4),
    "rows of a matrix is 0": matrix(rows=0),
    "columns of a matrix is -64": matrix(cols=-64),
    "no whole blocks of 256": matrix(layout=Q4_K.ggml_type),
    "overlap at a stride of 2175": matrix(stride=2175),
    "outside the arena": matrix(offset=ARENA_BYTES - 4),
    "is missing|outside the arena": matrix(offset=-4),
    "not on a multiple of 4": matrix(offset=2),
    "is odd or leaves the arena": matrix(stride=HUGE, rows=4096),
    "odd or leaves": matrix(stride=2178),
    "rows of a matrix is 4611686018427387904": matrix(rows=HUGE),
}
CASES: list[tuple[str, dict[str, Any], str]] = [
    ("embed", {"x": -1}, "embed: x is missing"),
    ("embed", {"x": ARENA_BYTES - 1020}, "outside the arena"),
    ("embed", {"table": matrix(rows=49)}, "embed: the table has 49 rows, the vocabulary 50"),
    *[("embed", {"table": bad}, message) for message, bad in BAD_MATRICES.items()],
    ("embed", {"positions": matrix(cols=32)}, "positions have 32 columns, tokens 64"),
    ("embed", {"positions": matrix(rows=0)}, "rows of a matrix is 0"),
    ("rope_table", {"frequencies": -1}, "frequencies is missing"),
    ("rope_table", {"pairs": 0}, "pairs is 0"),
    ("rope_table", {"pairs": -5}, "pairs is -5"),
    ("rope_table", {"table": 1}, "not on a multiple of 4"),
    ("norm", {"x": -1}, "norm: x is missing"),
    ("norm", {"weight": ARENA_BYTES - 252}, "outside the arena"),
    ("norm", {"added": 0}, "come together"),
    ("norm", {"added_weight": 0}, "come together"),
    ("norm", {"centred": True, "bias": ARENA_BYTES - 252}, "outside the arena"),
    ("norm", {"out": (-1, -1, 64)}, "neither codes nor values"),
    ("norm", {"out": (0, -1, 0)}, "columns of activations is 0"),
    ("norm", {"out": (0, -1, -32)}, "columns of activations is -32"),
    ("norm", {"out": (0, -1, HUGE)}, "columns of activations is 46"),
    ("norm", {"out": (ARENA_BYTES - acts_bytes(4, 64) + 64, -1, 64)}, "outside the arena"),
    ("matmul", {"parts": []}, "one to three"),
    ("matmul", {"parts": [(Q8_MATRIX, -1, 0)] * 4}, "one to three"),
    ("matmul", {"parts": [(Q8_MATRIX, -1, 1)]}, r"columns 1 \+ 64 leave the output row of 64"),
    ("matmul", {"parts": [(Q8_MATRIX, -1, -1)]}, "leave the output row"),
    ("matmul", {"parts": [(Q8_MATRIX, -1, (1 << 63) - 1)]}, "leave the output row"),
    ("matmul", {"parts": [(Q8_MATRIX, ARENA_BYTES - 252, 0)]}, "outside the arena"),
    ("matmul", {"parts": [(matrix(cols=32), -1, 0)]}, "has 32 columns, its input 64"),
    ("matmul", {"parts": [(matrix(cols=63), -1, 0)]}, "has 63 columns, its input 64"),
    ("matmul", {"parts": [(matrix(cols=65), -1, 0)]}, "panels of 3264 bytes overlap"),
    ("matmul", {"input": (-1, 0, 64)}, "lacks the form"),
    ("matmul", {"out": -1}, "matmul: out is missing"),
    ("matmul", {"out": ARENA_BYTES - 1020}, "outside the arena"),
    ("matmul", {"out_rows": 3}, "output has 3 rows, a step up to 4"),
    ("matmul", {"out_rows": 513}, "out_rows is 513"),
    ("matmul", {"out_stride": HUGE}, "out_stride is 46"),
    ("gated", {"up": matrix(rows=32)}, "gate has 64 rows, up 32"),
    ("gated", {"out": (1 << 16, -1, 32)}, "the output 32 columns"),
    ("gated", {"up": None, "out": (1 << 16, -1, 32)}, "the output 32 columns"),
    ("gated", {"up": None, "up_bias": OUT}, "one bias without the other"),
    ("gated", {"gate_bias": OUT}, "one bias without the other"),
    ("gated", {"activation": "relu"}, "not silu, gelu_tanh, gelu or relu2"),
    ("gated", {"input": (-1, 0, 64)}, "lacks the form"),
    ("gather_last", {"x": -1}, "x is missing"),
    ("gather_last", {"x_cols": 0}, "columns of x is 0"),
    ("gather_last", {"qkv_cols": 1 << 40}, "columns of qkv is"),
    ("gather_last", {"qkv": ARENA_BYTES - 252}, "outside the arena"),
    ("gather_last", {"kept": (-1, -1, 64)}, "neither codes nor values"),
    ("gather_last", {"kept": (-1, ARENA_BYTES - 252, 64)}, "outside the arena"),
    ("qk_norm", {"qkv": -1}, "qk_norm: qkv is missing"),
    ("qk_norm", {"q_norm": -1}, "qk_norm: q_norm is missing"),
    ("qk_norm", {"k_norm": -1}, "qk_norm: k_norm is missing"),
    ("qk_norm", {"qkv": ARENA_BYTES - 4092}, "outside the arena"),
    ("qk_norm", {"q_norm": ARENA_BYTES - 508}, "outside the arena"),
    ("qk_norm", {"k_norm": ARENA_BYTES - 252}, "outside the arena"),
    ("qk_norm", {"cols": HUGE}, "queries, keys and values is 46"),
    ("qk_norm", {"q_cols": 0}, "queries or keys is 0"),
    ("qk_norm", {"q_cols": 208}, "208 columns and keys of 64 leave a row of 256"),
    ("rope_kv_write", {"qkv": -1}, "qkv is missing"),
    ("rope_kv_write", {"table": -1}, "table is missing"),
    ("rope_kv_write", {"pairs": 17}, "17 pairs exceed a head of 32"),
    ("rope_kv_write", {"pairs": -1}, "the number of pairs is -1"),
    ("rope_kv_write", {"pairs": 0, "low_from": 1}, "low_from is 1 of 0 pairs"),
    ("rope_kv_write", {"pairs": 1 << 30}, "pairs exceed"),
    ("rope_kv_write", {"low_from": 17}, "low_from is 17 of 16 pairs"),
    ("rope_kv_write", {"low_from": -1}, "low_from is -1"),
    ("rope_kv_write", {"k_bias": 0}, "k_bias is for int8 pages"),
    (
        "rope_kv_write",
        {"k_bias": ARENA_BYTES - 252, "kv": (*KV[:5], "int8", 0)},
        "outside the arena",
    ),
    ("rope_kv_write", {"num_heads": 0}, "query heads is 0"),
    ("rope_kv_write", {"temperature": 0.5}, "temperature_tokens is 0"),
    ("rope_kv_write", {"num_heads": (1 << 31) - 1}, "queries, keys and values"),
    ("attend", {"kv": (1 << 18, 1 << 14, 0, 32, 32, "f16", 0)}, "key/value heads is 0"),
    ("attend", {"kv": (1 << 18, 1 << 14, 2, 0, 32, "f16", 0)}, "a head dimension is 0"),
    ("attend", {"kv": (1 << 18, 1 << 14, 2, 32, 528, "f16", 0)}, "a head dimension is 528"),
    ("attend", {"kv": (1 << 18, (1 << 14) - 4, 2, 32, 32, "f16", 0)}, "too small"),
    ("attend", {"kv": (1 << 18, (1 << 14) + 2, 2, 32, 32, "f16", 0)}, "no multiple of 4"),
    ("attend", {"kv": (1 << 18, HUGE, 2, 32, 32, "f16", 0)}, "leave the arena"),
    ("attend", {"kv": (ARENA_BYTES - (3 << 14) + 4, 1 << 14, 2, 32, 32, "f16", 0)}, "outside the"),
    ("attend", {"kv": (1 << 18, 1 << 14, 2, 32, 32, "int4", 0)}, "'int4' are unknown"),
    (
        "attend",
        {"kv": (1 << 18, 8700, 2, 32, 32, "int8", 0)},
        "8700 bytes is too small for heads of",
    ),
    # Keys of 33 elements lie as they are in f16 and as 48 in int8, values as 48 in both.
    ("attend", {"kv": (1 << 18, 20732, 2, 33, 33, "f16", 0)}, "too small for heads of 20736"),
    ("attend", {"kv": (1 << 18, 12796, 2, 33, 33, "int8", 0)}, "too small for heads of 12800"),
    ("attend", {"kv": (*KV[:6], 1)}, "group of pages is 1, there are 1"),
    ("attend", {"kv": (*KV[:6], -1)}, "group of pages is -1"),
    ("attend", {"num_heads": 3}, "3 query heads do not share 2"),
    ("attend", {"num_heads": 98}, "98 query heads do not share 2"),
    ("attend", {"num_heads": -2}, "query heads is -2"),
    ("attend", {"window": -1}, "the window is -1"),
    ("attend", {"out": -1}, "out is missing"),
    ("quantize", {"x": -1}, "quantize: x is missing"),
    ("pool_hidden", {"x": -1}, "pool_hidden: x is missing"),
    ("pool_hidden", {"weight": -1}, "pool_hidden: weight is missing"),
    ("pool_hidden", {"added": 0}, "come together"),
    ("pool_hidden", {"cols": 0}, "columns is 0"),
    ("pool_hidden", {"cols": sizes.WORKER_SCRATCH_BYTES // 4 + 1}, "columns is 68481"),
    ("pool_hidden", {"sums": -8}, "sums is missing"),
    ("pool_hidden", {"sums": OUT + 4}, "not on a multiple of 8"),
    ("pool_hidden", {"sums": ARENA_BYTES - 1016}, "outside the arena"),
    ("pool_hidden", {"slots": 0}, "slots is 0"),
    ("pool_hidden", {"bias": ARENA_BYTES - 252}, "outside the arena"),
    ("pool_hidden", {"slots": HUGE}, "slots is 46"),
]


@pytest.fixture
def program() -> Program:
    return Program(Arena(ARENA_BYTES, huge_pages=False), 50, [(3, 0)], 4)


@pytest.mark.parametrize("op", OPS)
def test_the_unchanged_arguments_are_accepted(program: Program, op: str) -> None:
    getattr(program, op)(**OPS[op])
    Executor(best_isa(), 2).run(program, [0] * 4, [([[2]], 4, 0)], [0, 3])


@pytest.mark.parametrize(("op", "changes", "message"), CASES)
def test_bad_arguments_are_refused(
    program: Program, op: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        getattr(program, op)(**{**OPS[op], **changes})


STEPS: list[tuple[list[int], list[tuple[list[list[int]], int, int]], list[int], str]] = [
    ([0] * 5, [([[0]], 5, 0)], [], "rows in a step is 5, the limit is 4"),
    ([50], [([[0]], 1, 0)], [], "token id is 50, the limit is 49"),
    ([-1], [([[0]], 1, 0)], [], "token id is -1, below 0"),
    ([0], [([[3]], 1, 0)], [], "page id is 3, the limit is 2"),
    ([0], [([[-1]], 1, 0)], [], "page id is -1, below 0"),
    ([0], [([[0]], 1, 64)], [], "positions up to 65 need 2 pages, the span has 1"),
    ([0, 0], [([[0]], 2, 63)], [], "positions up to 65 need 2 pages"),
    ([0], [([[]], 1, 0)], [], "need 1 pages, the span has 0"),
    ([0], [([[0]], 1, -1)], [], "starts at position -1"),
    ([0], [([[0]], 1, 2**31 - 1)], [], "last position of a span is 2147483648"),
    ([0], [([[0]], 0, 0)], [], "0 rows, it needs at least 1"),
    ([0], [([[0]], -1, 0)], [], "-1 rows, it needs at least 1"),
    ([0], [], [], "the spans hold 0 rows, the step has 1 tokens"),
    ([0, 0], [([[0]], 1, 0)], [], "the spans hold 1 rows, the step has 2 tokens"),
    ([0], [([[0]], 1, 0), ([[1]], 1, 0)], [], "the spans hold 2 rows"),
    ([0], [([[0]], 1, 0)], [1], "logit row is 1, the limit is 0"),
    ([0], [([[0]], 1, 0)], [-1], "logit row is -1, below 0"),
    ([0, 0], [([[0]], 2, 0)], [1, 0], "0 follows 1"),
    ([0, 0], [([[0]], 2, 0)], [1, 1], "1 follows 1"),
    ([0] * 4, [([[0]], 4, 0)], [0, 1, 2], "number of logit rows is 3, the limit is 2"),
]


@pytest.mark.parametrize(("tokens", "spans", "logit_rows", "message"), STEPS)
def test_bad_steps_are_refused(
    program: Program, tokens: list[int], spans: list[Any], logit_rows: list[int], message: str
) -> None:
    program.matmul(**{**MATMUL, "gather": True, "out_rows": 2})
    team = Executor(best_isa(), 2)
    with pytest.raises(InputError, match=message):
        team.run(program, tokens, spans, logit_rows)


def test_positions_behind_a_learned_table_are_refused(program: Program) -> None:
    program.embed(**{**EMBED, "positions": matrix(rows=40)})
    team = Executor(best_isa(), 1)
    team.run(program, [0], [([[0]], 1, 39)], [])
    with pytest.raises(InputError, match="last position of a span is 41, the limit is 40"):
        team.run(program, [0], [([[0]], 1, 40)], [])


POOLED: list[tuple[list[tuple[int, int, int, bool]], list[int], str]] = [
    ([(0, 1, 2, True)], [], "slot of hidden states is 2, the limit is 1"),
    ([(0, 1, -1, True)], [], "slot of hidden states is -1, below 0"),
    ([(0, 1, 0, True), (1, 1, 0, True)], [], "slot 0 of hidden states is named twice"),
    ([(0, 0, 0, True)], [], r"pooled rows 0 \+ 0 do not ascend"),
    ([(-1, 2, 0, True)], [], r"pooled rows -1 \+ 2 do not ascend"),
    ([(3, 2, 0, True)], [], r"pooled rows 3 \+ 2 do not ascend within the 4"),
    ([(2**31 - 1, 2**31 - 1, 0, True)], [], "do not ascend within"),
    ([(2, 2, 0, True), (1, 1, 1, True)], [], "do not ascend"),
    ([(1, 2, 0, True), (2, 1, 1, True)], [], "do not ascend"),
    ([(1, 3, 0, True)], [0, 2], "row 2 has logits and is pooled"),
]


@pytest.mark.parametrize(("pooled", "logit_rows", "message"), POOLED)
def test_bad_rows_to_pool_are_refused(
    program: Program, pooled: list[tuple[int, int, int, bool]], logit_rows: list[int], message: str
) -> None:
    program.pool_hidden(**POOL_HIDDEN)
    with pytest.raises(InputError, match=message):
        Executor(best_isa(), 2).run(program, [0] * 4, [([[0]], 4, 0)], logit_rows, pooled)


def test_a_program_that_pools_nothing_has_no_slots(program: Program) -> None:
    with pytest.raises(InputError, match="slot of hidden states is 0, the limit is -1"):
        Executor(best_isa(), 1).run(program, [0], [([[0]], 1, 0)], [], [(0, 1, 0, True)])


# Two groups: three pages of layers that see everything, two of layers that see 70 positions.
WINDOWED: list[tuple[list[list[int]], int, str]] = [
    ([[0]], 0, "pages of 1 groups, the program 2"),
    ([[0], [0], [0]], 0, "pages of 3 groups, the program 2"),
    ([[0, 1, 2], [-1, 0, 1]], 132, "page id is -1, below 0"),
    ([[-1, 1, 2], [0, 0, 1]], 133, "page id is -1, below 0"),
    ([[0, 1, 2], [-2, 0, 1]], 133, "page id is -2, below 0"),
    ([[0, 1, 2], [2, 0, 1]], 133, "page id is 2, the limit is 1"),
    ([[0, 1, 2], [-1, -1, 1]], 133, "page id is -1, below 0"),
    ([[0, 1, 2], [-1, 0]], 133, "need 3 pages, the span has 2"),
]


@pytest.fixture
def windowed() -> Program:
    return Program(Arena(ARENA_BYTES, huge_pages=False), 50, [(3, 0), (2, 70)], 4)


@pytest.mark.parametrize(("pages", "position", "message"), WINDOWED)
def test_bad_tables_are_refused(
    windowed: Program, pages: list[list[int]], position: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Executor(best_isa(), 1).run(windowed, [0], [(pages, 1, position)], [])


def test_what_lies_behind_the_window_needs_no_page(windowed: Program) -> None:
    kv = (*KV[:6], 1)
    windowed.rope_kv_write(**{**ROPE_KV_WRITE, "kv": kv})
    windowed.attend(**{**ATTEND, "kv": kv, "window": 70})
    # The row at 133 sees positions from 64 on.
    Executor(best_isa(), 2).run(windowed, [0], [([[0, 1, 2], [-1, 0, 1]], 1, 133)], [])


@pytest.mark.parametrize("window", [0, 71])
def test_layers_do_not_see_further_than_their_pages(windowed: Program, window: int) -> None:
    with pytest.raises(InputError, match=f"the window is {window} over pages that keep 70"):
        windowed.attend(**{**ATTEND, "kv": (*KV[:6], 1), "window": window})


def test_an_empty_step_does_nothing(program: Program) -> None:
    for op, args in OPS.items():
        getattr(program, op)(**args)
    Executor(best_isa(), 3).run(program, [], [], [])


def test_bad_teams_are_refused() -> None:
    with pytest.raises(InputError, match="the instruction set 'neon' is unknown to this build"):
        Executor("neon", 1)
    with pytest.raises(InputError, match="at least 1 thread, not 0"):
        Executor(best_isa(), 0)
    with pytest.raises(InputError, match="threads is 1025"):
        Executor(best_isa(), 1025)


def test_bad_programs_are_refused() -> None:
    arena = Arena(4096, huge_pages=False)
    none = [(0, 0)]
    bad = [
        ((0, none, 1), "vocabulary is 0"), ((1, [(-1, 0)], 1), "pages is -1"),
        ((1, [(1, -1)], 1), "window of a group is -1"), ((1, none, 513), "is 513"),
    ]  # fmt: skip
    for args, message in bad:
        with pytest.raises(InputError, match=message):
            Program(arena, *args)
    with pytest.raises((InputError, TypeError)):
        Program(None, 1, none, 1)  # type: ignore[arg-type]


def test_bad_arenas_are_refused() -> None:
    for size in (0, -1):
        with pytest.raises(InputError, match="holds nothing"):
            Arena(size, huge_pages=False)
    for size in (1 << 62, (1 << 63) - 1):
        with pytest.raises(MemoryError):
            Arena(size, huge_pages=False)


OUTSIDE = [(-1, 1), (4096, 1), (0, 4097), (1, -1), (1 << 62, 1 << 62)]


@pytest.mark.parametrize(("offset", "size"), OUTSIDE)
def test_bytes_outside_the_arena_are_refused(offset: int, size: int) -> None:
    arena = Arena(4096, huge_pages=False)
    with pytest.raises(InputError, match="outside the arena"):
        arena.read(offset, size)
    if 0 < size < 5000:
        with pytest.raises(InputError, match="outside the arena"):
            arena.write(offset, b"\0" * size)


@pytest.mark.parametrize("name", ["offset", "rows", "stride", "cols", "layout"])
def test_bad_targets_of_loading_are_refused(program: Program, name: str) -> None:
    target: Any = matrix(**{name: -8})
    with pytest.raises(InputError):
        Executor(best_isa(), 1).load_matrix(
            program=program, fd=-1, file_offset=0, source=Q8_0.ggml_type, target=target
        )


def test_a_bad_file_is_an_error(program: Program) -> None:
    team = Executor(best_isa(), 2)
    load: Callable[..., None] = team.load_matrix
    with pytest.raises(RuntimeError, match="could not be read"):
        load(program=program, fd=-1, file_offset=0, source=Q8_0.ggml_type, target=Q8_MATRIX)


def test_two_callers_take_turns(program: Program) -> None:
    program.embed(**EMBED)
    team = Executor(best_isa(), 2)
    errors: list[BaseException] = []

    def call() -> None:
        try:
            for _ in range(200):
                team.run(program, [0] * 4, [([[2]], 4, 0)], [])
        except BaseException as error:
            errors.append(error)

    callers = [Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not errors
