"""Formats under a byte budget: never above a matrix's own bits, within the budget, least loss."""

from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.regenerate import tiny_spec
from support.layers import layer_of
from tonnage.backends.cpu.layout.cpu_layout import CpuLayout
from tonnage.backends.cpu.layout.place import HUGE_PAGE_BYTES
from tonnage.backends.cpu.layout.plan import make_plan
from tonnage.blocks.attention import Attention
from tonnage.blocks.gated_mlp import GatedMlp
from tonnage.core.block_format import ALL_FORMATS, BY_NAME, FLOAT_FORMATS
from tonnage.core.checkpoint import TensorEntry
from tonnage.core.errors import RequestError
from tonnage.core.mix import PLAIN_FORMATS, SUPER_FORMATS, TARGETS, Formats, lower_formats
from tonnage.core.model_spec import ModelSpec
from tonnage.core.rope import RopeSpec
from tonnage.core.rounding import round_up
from tonnage.core.workload import Workload
from tonnage.machine.host import read_machine
from tonnage.planner.quality.allocator import Allocator, menus
from tonnage.planner.quality.estimate import (
    KNOWN_FACTOR,
    SQUARED_ERROR,
    SQUARED_ERROR_FROM,
    estimate,
    loss_of,
)
from tonnage.planner.quality.precision import precision_formats
from tonnage.planner.search.constraints import Constraints, choose_workload


def model(
    formats: list[str], *, width: int = 1024, hidden: int = 4096, num_layers: int = 3,
    vocab_size: int = 8000, tied: bool = True,
) -> ModelSpec:  # fmt: skip
    """Return a model whose matrices take `formats` in turn, where these divide their rows."""
    layer = layer_of(Attention(8, 2, 64, 64, 1.0), GatedMlp(hidden))
    spec = ModelSpec(
        "any", vocab_size, width, (layer,) * num_layers, (RopeSpec(64, 1e4),), 512, 1e-6
    )
    shapes: dict[str, tuple[int, ...]] = {"embed": (vocab_size, width), "final_norm": (width,)}
    if not tied:
        shapes["head"] = (vocab_size, width)
    for i in range(num_layers):
        own = {"q": (512, width), "k": (128, width), "v": (128, width), "o": (width, 512),
               "gate": (hidden, width), "up": (hidden, width), "down": (width, hidden)}  # fmt: skip
        shapes |= {f"layers.{i}.{name}": shape for name, shape in own.items()}
        shapes |= {f"layers.{i}.attn_norm": (width,), f"layers.{i}.mlp_norm": (width,)}
    for at, (name, shape) in enumerate(shapes.items()):
        fmt = BY_NAME[formats[at % len(formats)]] if len(shape) == 2 else BY_NAME["F32"]
        if shape[-1] % fmt.block_elems:
            fmt = BY_NAME["Q8_0"]
        spec.weights[name] = TensorEntry(name, fmt, shape, "file", 0, fmt.nbytes(shape))
    return spec


SPECS = st.builds(
    model, st.lists(st.sampled_from([fmt.name for fmt in ALL_FORMATS]), min_size=1, max_size=5),
    width=st.sampled_from([576, 1024]), num_layers=st.integers(1, 4), tied=st.booleans(),
)  # fmt: skip


def weights_item(spec: ModelSpec, formats: Formats) -> int:
    """Return the bytes of the plan's first item."""
    return make_plan(spec, Workload(64, 1, formats=formats)).items[0].planned_bytes


def loss(spec: ModelSpec, formats: Formats) -> float:
    return sum(loss_of(spec, name, fmt) for name, fmt in formats)


def smallest(spec: ModelSpec) -> Formats:
    return tuple(
        sorted((name, formats[-1].format) for name, formats in menus(spec, CpuLayout()).items())
    )


@pytest.mark.parametrize("cols", [32, 576, 896, 256, 1536])
def test_every_ladder_goes_down_in_formats_that_fit(cols: int) -> None:
    bytes_of = [BY_NAME[fmt].nbytes((32 * 256 // 32, cols)) for fmt in lower_formats(cols)]
    assert bytes_of == sorted(set(bytes_of), reverse=True)
    assert lower_formats(cols) == (PLAIN_FORMATS if cols % 256 else SUPER_FORMATS)


@settings(deadline=None, max_examples=30)
@given(spec=SPECS)
def test_menus_never_go_up(spec: ModelSpec) -> None:
    found = menus(spec, CpuLayout())
    assert set(found) == {name for name, entry in spec.weights.items() if len(entry.shape) == 2}
    for name, formats in found.items():
        assert formats[0].format == spec.weights[name].format.name
        sizes = [candidate.nbytes for candidate in formats]
        assert sizes == sorted(set(sizes), reverse=True)
        for candidate in formats[1:]:
            plan = make_plan(spec, Workload(64, 1, formats=((name, candidate.format),)))
            assert next(m for m in plan.matrices if m.name == name).nbytes == candidate.nbytes


@settings(deadline=None, max_examples=60)
@given(spec=SPECS, share=st.floats(0.2, 1.05))
def test_what_is_allocated_fits_and_nothing_fits_where_it_says_so(
    spec: ModelSpec, share: float
) -> None:
    budget = int(weights_item(spec, ()) * share)
    formats = Allocator(spec, CpuLayout()).formats(budget)
    assert formats == Allocator(spec, CpuLayout()).formats(budget)
    if formats is None:
        assert weights_item(spec, smallest(spec)) > budget
        return
    assert weights_item(spec, formats) <= budget
    assert formats == tuple(sorted(formats))
    if share >= 1:
        assert formats == ()


@settings(deadline=None, max_examples=20)
@given(spec=SPECS)
def test_more_bytes_never_cost_quality(spec: ModelSpec) -> None:
    full = weights_item(spec, ())
    losses = [
        loss(spec, formats)
        for budget in range(0, full + 1, max(1, full // 40))
        if (formats := Allocator(spec, CpuLayout()).formats(budget)) is not None
    ]
    for before, after in pairwise(losses):
        assert after <= before * (1 + 1e-9)


@pytest.mark.parametrize("share", [0.5, 0.6, 0.7, 0.8, 0.9])
def test_near_the_best_of_all_mixes(share: float) -> None:
    """A hull can miss by one step of one unit; the search over everything says by how much."""
    spec = model(["Q8_0"], num_layers=1, vocab_size=2000)
    units = (("q", "k", "v"), ("o",), ("gate", "up"), ("down",))
    names = [("embed",), *(tuple(f"layers.0.{n}" for n in unit) for unit in units)]
    room = int(weights_item(spec, ()) * share) // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
    sizes = {
        (unit, fmt): sum(
            BY_NAME[fmt].nbytes((round_up(spec.weights[n].shape[0], 32), spec.weights[n].shape[1]))
            for n in unit
        )
        for unit in names
        for fmt in SUPER_FORMATS
    }
    losses = {key: sum(loss_of(spec, n, key[1]) for n in key[0]) for key in sizes}
    vectors = weights_item(spec, ()) - sum(sizes[unit, "Q8_0"] for unit in names)
    vectors %= HUGE_PAGE_BYTES
    best = min(
        sum(losses[key] for key in zip(names, mix, strict=True))
        for mix in product(SUPER_FORMATS, repeat=len(names))
        if sum(sizes[key] for key in zip(names, mix, strict=True)) <= room - 16_384
    )
    ours = Allocator(spec, CpuLayout()).formats(room)
    assert ours is not None
    largest_step = max(losses[unit, "Q2_K"] for unit in names)
    assert loss(spec, ours) <= best + largest_step


def test_a_precision_is_a_wish_for_float_matrices() -> None:
    spec = tiny_spec("qwen3")
    for precision in ("8bit", "4bit"):
        formats = dict(precision_formats(spec, precision))
        assert set(formats) == set(menus(spec, CpuLayout()))
        assert formats["embed"] == "Q8_0"
        workload = choose_workload(spec, read_machine(), Constraints(precision=precision))
        assert dict(workload.formats) == formats
        assert not {m.format for m in make_plan(spec, workload).matrices} & FLOAT_FORMATS
    assert precision_formats(model(["Q8_0"]), "4bit") == ()


def test_single_formats_come_before_a_precision() -> None:
    spec = tiny_spec("llama")
    constraints = Constraints(precision="4bit", formats=(("layers.0.down", "Q8_0"),))
    workload = choose_workload(spec, read_machine(), constraints)
    formats = {m.name: m.format for m in make_plan(spec, workload).matrices}
    assert formats["layers.0.down"] == "Q8_0"
    assert formats["layers.1.down"] == "Q4_1"


@pytest.mark.parametrize(
    ("formats", "says"),
    [((("layers.9.down", "Q4_K"),), "no matrix"), ((("final_norm", "Q8_0"),), "no matrix"),
     ((("layers.0.q", "Q9_Z"),), "cannot be loaded as Q9_Z"),
     ((("layers.0.q", "F16"),), "cannot be loaded as F16; use one of Q8_0"),
     ((("layers.0.q", "Q4_K"),), "rows of 576 and cannot be loaded as Q4_K")],
)  # fmt: skip
def test_formats_that_do_not_do(formats: Formats, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        make_plan(model(["Q8_0"], width=576), Workload(64, 1, formats=formats))


def test_the_estimate() -> None:
    spec = model(["Q8_0"], tied=False)
    assert estimate(spec, ()).mean_kld == 0
    assert estimate(spec, ()).factor == KNOWN_FACTOR > 1
    lower = [
        estimate(spec, tuple((name, fmt) for name in menus(spec, CpuLayout()))).mean_kld
        for fmt in ("Q6_K", "Q5_K", "Q4_K", "IQ4_XS", "Q3_K", "Q2_K")
    ]
    assert lower == sorted(set(lower))
    one = estimate(spec, (("layers.0.down", "Q4_K"),)).mean_kld
    two = estimate(spec, (("layers.0.down", "Q4_K"), ("layers.1.down", "Q4_K"))).mean_kld
    assert 0 < one < two
    assert estimate(spec, (), "int8").mean_kld > 0
    assert set(SQUARED_ERROR) >= set(TARGETS)


def test_the_estimate_adds_up_matrices_pages_and_a_change_at_all() -> None:
    spec = model(["Q8_0"])
    changed = (("layers.0.down", "Q4_K"), ("layers.1.q", "Q3_K"), ("embed", "Q5_K"))
    totals = [estimate(spec, changed[:count]).mean_kld for count in range(4)]
    rest = [total - loss(spec, changed[:count]) for count, total in enumerate(totals)]
    assert totals[0] == 0
    assert rest[1] > 0
    assert rest[1:] == pytest.approx([rest[1]] * 3)
    pages = estimate(spec, (), "int8").mean_kld
    assert estimate(spec, changed, "int8").mean_kld == pytest.approx(totals[3] + pages)
    # What is tiny is a change too.
    assert estimate(model(["Q8_0"], width=1 << 20, num_layers=1), (("embed", "Q6_K"),)).mean_kld > 0


def test_narrow_models_suffer_in_proportion() -> None:
    narrow, wide = (model(["Q8_0"], width=width) for width in (512, 2048))
    for formats, pages in (((("layers.0.o", "Q4_K"),), "f16"), ((), "int8")):
        found = [estimate(spec, formats, pages).mean_kld for spec in (narrow, wide)]
        assert found[0] == pytest.approx(4 * found[1])


def test_each_of_more_layers_matters_less_and_a_table_of_both_ends_twice() -> None:
    of_layers = [loss_of(model(["Q8_0"], num_layers=n), "layers.0.gate", "Q4_K") for n in (1, 4)]
    assert of_layers[0] == pytest.approx(4 * of_layers[1])
    tied, untied = (model(["Q8_0"], tied=tied) for tied in (True, False))
    at_one_end = loss_of(untied, "embed", "Q4_K")
    assert loss_of(tied, "embed", "Q4_K") == pytest.approx(2 * at_one_end)
    assert loss_of(untied, "head", "Q4_K") == at_one_end


def test_a_file_of_sixteen_steps_loses_less_as_another_of_sixteen() -> None:
    for own, fmt in SQUARED_ERROR_FROM:
        from_file, from_finer = (model([name], tied=False) for name in (own, "Q8_0"))
        assert loss_of(from_file, "layers.0.q", fmt) < loss_of(from_finer, "layers.0.q", fmt)
        assert loss_of(from_file, "layers.0.q", own) == 0
