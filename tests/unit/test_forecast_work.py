"""What a plan has to do, counted by hand for tiny models of two layers, width 128."""

import pytest

from golden.regenerate import tiny_spec
from tonnage.backends.cpu.layout.plan import make_plan
from tonnage.core.workload import Workload
from tonnage.planner.cost.work import Attention, Work, work_of


def work(family: str, *, threads: int = 1, kv_format: str = "f16") -> Work:
    """Return the sums of a model in bfloat16; its head is not the embedding but for gemma2."""
    return work_of(make_plan(tiny_spec(family), Workload(64, threads, kv_format=kv_format)))


COMMON = {"embed": 1, "rope_table": 1, "matmul": 7, "attend": 2}
# The first norm adds nothing; where results are normed all others do.
KINDS = {
    ("llama", "f16"): {"norm": 5, "gated silu": 2, "rope_kv_write f16": 2},
    ("llama", "int8"): {"norm": 5, "gated silu": 2, "rope_kv_write int8": 2},
    ("qwen3", "f16"): {"norm": 5, "gated silu": 2, "rope_kv_write f16 normed": 2},
    ("qwen3", "int8"): {"norm": 5, "gated silu": 2, "rope_kv_write int8 normed": 2},
    ("gemma2", "f16"): {"norm": 1, "norm added": 4, "gated gelu": 2, "rope_kv_write f16": 2},
    # Queries and keys are normed apart, once in each layer.
    ("olmo2", "f16"): {"norm": 3, "norm added": 4, "gated silu": 2, "rope_kv_write f16": 2},
}


@pytest.mark.parametrize(("family", "kv_format"), KINDS)
def test_every_operation_has_the_rate_of_its_kind(family: str, kv_format: str) -> None:
    found = work(family, kv_format=kv_format)
    expected = COMMON | KINDS[family, kv_format]
    assert {op: count for op, count, _, _ in found.elements} == expected
    assert found.num_products == 9
    assert found.kv_format == kv_format
    assert found.activation == ("gated gelu" if family == "gemma2" else "gated silu")


def test_elements_of_a_row_before_and_behind_the_last_keys() -> None:
    found = {op: (early, late) for op, _, early, late in work("olmo2").elements}
    # Four heads of queries and two of keys, each of 32, in both layers; the norms of 128.
    assert found["norm"] == (128 + 2 * 6 * 32, 0)
    assert found["norm added"] == (2 * 128, 2 * 128)
    assert found["rope_kv_write f16"] == (2 * 8 * 32, 0)
    assert found["embed"] == (128, 0)
    assert found["matmul"] == found["gated silu"] == (0, 0)


def test_products_on_one_thread() -> None:
    early, late = sorted(work("llama").products, key=lambda one: one.late)
    assert [(one.format, one.late) for one in (early, late)] == [("BF16", False), ("BF16", True)]
    # Of 64 elements are four heads of queries, two of keys and two of values. 307 logits.
    assert (early.written, late.written) == (2 * 512 + 2 * 128, 2 * 128 + 307)
    assert (early.gated, late.gated) == (160, 160)
    down = 128 * 160
    assert early.weights == 2 * 512 * 128 + 128 * 256 + 3 * down
    assert late.weights == 128 * 256 + 3 * down + 320 * 128
    assert (early.read_bytes, late.read_bytes) == (2 * early.weights, 2 * late.weights)


def test_the_busiest_thread_counts_as_if_all_had_as_many_panels() -> None:
    early, late = sorted(work("llama", threads=3).products, key=lambda one: one.late)
    # Of 16, 4, 5 and 10 panels of 32 rows three threads have 6, 2, 2 and 4 at most.
    assert early.written == pytest.approx(2 * 512 * 18 / 16 + 2 * 128 * 6 / 4)
    assert late.written == pytest.approx(2 * 128 * 6 / 4 + 307 * 12 / 10)
    assert (early.gated, late.gated) == pytest.approx((160 * 6 / 5, 160 * 6 / 5))
    gate_up, down = 2 * 160 * 128 * 6 / 5, 128 * 160 * 6 / 4
    assert early.weights == pytest.approx(
        2 * 512 * 128 * 18 / 16 + 128 * 256 * 6 / 4 + gate_up + down
    )
    assert early.read_bytes == pytest.approx(2 * early.weights)


def test_attention_is_counted_by_its_shape() -> None:
    found = work("llama")
    assert [(one.count, one.late, one.window) for one in found.attention] == [
        (1, False, 0), (1, True, 0),
    ]  # fmt: skip
    assert {(one.num_heads, one.num_kv_heads, one.head_elements) for one in found.attention} == {
        (4, 2, 128)
    }
    # Keys and values of two heads of 64 in float16.
    assert {one.position_bytes for one in found.attention} == {2 * 2 * 64 * 2}
    assert found.kv_bytes(9) == 2 * 10 * 512
    assert found.attention_macs(9) == 2 * 10 * 4 * 128
    assert found.vector_bytes == 5 * 128 * 4  # norms, in float32


@pytest.mark.parametrize(
    ("window", "seen"), [(0, [1, 2, 3, 4, 5]), (3, [1, 2, 3, 3, 3]), (1, [1, 1, 1, 1, 1])]
)
def test_a_token_sees_itself_and_what_its_window_has(window: int, seen: list[int]) -> None:
    shape = Attention(1, 48, 1, 128, 1.0, window, 48, late=False)
    assert [shape.seen(position) for position in range(5)] == seen


@pytest.mark.parametrize(
    ("position", "scored", "paged"),
    [
        (69, 80, 128),  # all of 70 positions, on two pages
        (132, 144, 192),  # from 63 on, the last of the first page
        (133, 80, 128),  # from 64 on
        (169, 128, 128),  # from 100 on, in the page of 64: 106 positions
    ],
)
def test_a_window_is_passed_over_by_whole_pages_and_16_32_or_64_of_the_last(
    position: int, scored: int, paged: int
) -> None:
    shape = Attention(1, 48, 1, 128, 1.0, 70, 48, late=False)
    assert shape.passes(position, 1) == (scored, paged)
