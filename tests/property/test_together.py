"""Models that share bytes, of made-up sizes: what must hold for any number of any size."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tonnage.core.kv_format import PAGE_TOKENS
from tonnage.planner.models.fair_share import ModelBytes, Share, divide, peak_bytes
from tonnage.server.models.load_policy import Admit, Load, LoadPolicy, Size, Unload


@dataclass(frozen=True)
class Made:
    """A model of weights, and pages that come by whole huge pages, as those of a plan do."""

    weight_bytes: int
    page_bytes: int
    load_bytes: int
    least_tokens: int
    most_tokens: int
    smallest_share: float
    cut_share: float = 1.0
    pinned: bool = False
    huge_bytes: int = 8

    def need(self, tokens: int) -> ModelBytes:
        assert self.least_tokens <= tokens <= self.most_tokens
        pages = -(-tokens // PAGE_TOKENS) * self.page_bytes
        huge = -(-pages // self.huge_bytes) * self.huge_bytes
        return ModelBytes(self.weight_bytes + huge, self.load_bytes)

    @property
    def smallest_bytes(self) -> int:
        return int(self.least.loading_bytes * self.smallest_share)

    @property
    def cut_bytes(self) -> int:
        return int(self.least.loading_bytes * self.cut_share)

    @property
    def usual_tokens(self) -> int:
        return (self.least_tokens + self.most_tokens) // 2

    @property
    def least(self) -> ModelBytes:
        return self.need(self.least_tokens)


@st.composite
def made_models(draw: st.DrawFn) -> dict[str, Made]:
    models = {}
    for name in "abcde"[: draw(st.integers(1, 5))]:
        least = draw(st.integers(1, 5)) * PAGE_TOKENS - draw(st.integers(0, 9))
        models[name] = Made(
            draw(st.integers(1, 120)),
            draw(st.integers(1, 6)),
            draw(st.integers(0, 12)),
            least,
            least + draw(st.integers(0, 20 * PAGE_TOKENS)),
            *sorted((draw(st.floats(0.1, 1)), draw(st.floats(0.1, 1)))),
            draw(st.booleans()) and draw(st.booleans()),
            draw(st.sampled_from([1, 8])),
        )
    return models


CAPACITY = st.integers(1, 900)


def needs(models: dict[str, Made], shares: dict[str, Share]) -> dict[str, ModelBytes]:
    """Return what each takes; whoever gets no tokens is made to take all of its room."""
    return {
        name: ModelBytes(shares[name].available_bytes, 0)
        if (tokens := shares[name].tokens) is None
        else one.need(tokens)
        for name, one in models.items()
    }


def load_peak(held: int, sizes: Iterable[ModelBytes]) -> int:
    """Return the most that is held while models are loaded one after the other beside `held`."""
    most = held
    for one in sizes:
        most = max(most, held + one.resident_bytes + one.load_bytes)
        held += one.resident_bytes
    return most


def simulated_peak(loose: Iterable[ModelBytes], pinned: Iterable[ModelBytes] = ()) -> int:
    """Return the most that co-resident models come to, by loading them in every order.

    Pinned models are loaded first and once. Any other may go and come back, so that each of them
    is also the last one to be loaded.
    """
    kept, rest = list(pinned), list(loose)
    held = sum(one.resident_bytes for one in kept)
    first = max(load_peak(0, order) for order in permutations(kept))
    return max(first, *(load_peak(held, order) for order in permutations(rest)))


def taken(models: dict[str, Made], took: dict[str, ModelBytes]) -> int:
    """Return what those in `took` come to, co-resident."""
    kept = [one for name, one in took.items() if models[name].pinned]
    return simulated_peak((one for name, one in took.items() if not models[name].pinned), kept)


def count(shares: dict[str, Share] | None) -> int:
    return 0 if shares is None else sum(share.co_resident for share in shares.values())


@settings(max_examples=400, deadline=None)
@given(made_models(), CAPACITY)
def test_nothing_ever_takes_more_than_there_is(models, capacity):
    shares = divide(models, capacity)
    if shares is None:
        return
    assert list(shares) == list(models)
    took = needs(models, shares)
    assert taken(models, {n: took[n] for n in models if shares[n].co_resident}) <= capacity
    kept = [name for name, one in models.items() if one.pinned]
    assert all(shares[name].co_resident for name in kept)
    pinned_bytes = sum(took[name].resident_bytes for name in kept)
    loose = sorted(
        took[name].resident_bytes
        for name, share in shares.items()
        if share.co_resident and name not in kept
    )
    beside_bytes = pinned_bytes + sum(loose)
    for name, share in shares.items():
        assert took[name].loading_bytes <= share.available_bytes or share.co_resident
        if not share.co_resident:
            # Whichever of them go, the smallest are the worst case.
            gone = sum(loose[: share.in_place_of])
            assert beside_bytes - gone + took[name].loading_bytes <= capacity
            assert pinned_bytes + models[name].smallest_bytes <= capacity


@settings(max_examples=300, deadline=None)
@given(made_models(), CAPACITY)
def test_the_most_models_that_fit_at_all_are_together(models, capacity):
    shares = divide(models, capacity)
    kept = [one.least for one in models.values() if one.pinned]
    others = [one.least for one in models.values() if not one.pinned]
    smallest = max((one.smallest_bytes for one in models.values() if not one.pinned), default=0)
    fits = simulated_peak((), kept) <= capacity
    fits &= sum(one.resident_bytes for one in kept) + smallest <= capacity
    assert (shares is not None) == fits
    if shares is None:
        return
    most = max(
        len(chosen)
        for size in range(len(others) + 1)
        for chosen in combinations(others, size)
        if simulated_peak(chosen, kept) <= capacity
    )
    if not kept and most == 1 < len(others):
        most = 0  # one alone is beside nobody
    # The only one beside pinned ones stays, however small its plan has to be.
    assert count(shares) - len(kept) == max(most, len(others) == 1)


@settings(max_examples=300, deadline=None)
@given(made_models(), CAPACITY, st.integers(0, 300))
def test_more_bytes_never_mean_fewer_models_side_by_side(models, capacity, more):
    assert count(divide(models, capacity)) <= count(divide(models, capacity + more))


@settings(max_examples=200, deadline=None)
@given(made_models(), CAPACITY)
def test_the_same_is_said_twice_and_the_order_of_equals_alone_matters(models, capacity):
    assert divide(models, capacity) == divide(dict(models), capacity)
    turned = divide(dict(reversed(models.items())), capacity)
    assert count(turned) == count(divide(models, capacity))


@settings(max_examples=400, deadline=None)
@given(made_models(), CAPACITY)
def test_nobody_gets_more_while_somebody_with_less_could_use_it(models, capacity):
    shares = divide(models, capacity)
    if shares is None:
        return
    tokens = {n: s.tokens for n, s in shares.items() if s.co_resident and s.tokens is not None}
    turns = {n: one for n, one in models.items() if not shares[n].co_resident}
    # One that is the only one that comes and goes stays with what pinned ones leave.
    turns |= {n: models[n] for n, s in shares.items() if s.tokens is None}
    kept = sum(one.least.resident_bytes for one in models.values() if one.pinned)
    able = {n for n, one in turns.items() if kept + one.least.loading_bytes <= capacity}
    cut = [one for n, one in turns.items() if n not in able]
    reserve = max(
        *(turns[name].least.loading_bytes for name in able),
        *(min(max(one.smallest_bytes, one.cut_bytes), capacity - kept) for one in cut),
        0,
        0,
    )
    limits = {
        n: models[n].usual_tokens if cut and models[n].pinned else models[n].most_tokens
        for n in tokens
    }

    def fits(tokens: dict[str, int]) -> bool:
        took = {name: models[name].need(count) for name, count in tokens.items()}
        kept = sum(took[name].resident_bytes for name in took if models[name].pinned)
        return taken(models, took) <= capacity and kept + reserve <= capacity

    assert fits(tokens)
    poorest = []
    for name, own in tokens.items():
        one = models[name]
        assert one.least_tokens <= own <= limits[name]
        if own < limits[name]:
            poorest.append(own)
            assert not fits({**tokens, name: min(own + PAGE_TOKENS, limits[name])})
    if poorest:
        # Not even if all others gave back what they have more than that.
        level = min(poorest) + PAGE_TOKENS
        raised = {n: min(max(level, models[n].least_tokens), limits[n]) for n in tokens}
        assert not fits(raised)


@settings(max_examples=200, deadline=None)
@given(made_models(), CAPACITY, st.lists(st.sampled_from("abcde"), max_size=25))
def test_in_use_those_together_stay_and_no_pinned_one_ever_goes(models, capacity, asked):
    """Requests one after the other: what is together is loaded once while nobody else is asked."""
    shares = divide(models, capacity)
    if shares is None:
        return
    took = needs(models, shares)
    sizes = {n: Size(one.resident_bytes, one.loading_bytes) for n, one in took.items()}
    pinned = [name for name, one in models.items() if one.pinned]
    policy = LoadPolicy(sizes, capacity, pinned=pinned)
    loads: list[str] = []
    gone: list[str] = []

    def ask(name: str) -> None:
        ticket = policy.ask(name, 0)
        for _ in range(2 * len(models) + 2):
            for action in policy.decide(0):
                match action:
                    case Load(model):
                        loads.append(model)
                        policy.loaded(model)
                    case Unload(model):
                        gone.append(model)
                        policy.unloaded(model)
                    case Admit(admitted):
                        assert admitted == ticket
                        policy.finish(name)
            assert policy.used_bytes <= capacity
        assert policy.num_waiting == 0

    for name in pinned:
        ask(name)
    beside = [name for name, share in shares.items() if share.co_resident]
    for name in [*beside, *beside, *(one for one in asked if one in beside)]:
        ask(name)
    assert sorted(loads) == sorted(beside)
    assert not gone
    for name in (one for one in asked if one in models):
        ask(name)
    assert not set(gone) & set(pinned)


SIZES = st.lists(st.builds(ModelBytes, st.integers(0, 99), st.integers(0, 99)), max_size=4)


@given(SIZES, SIZES)
def test_the_planned_peak_is_that_of_the_worst_order_of_loading(loose, pinned):
    assert peak_bytes(loose, pinned) == simulated_peak(loose, pinned)


def test_a_pinned_model_whose_load_buffers_do_not_fit_is_refused():
    """100 bytes of weights and 50 more while they are loaded: 149 are one too few."""
    pinned = Made(100, 0, 50, PAGE_TOKENS, PAGE_TOKENS, 1.0, pinned=True)
    assert divide({"a": pinned}, 149) is None
    assert divide({"a": pinned}, 150) is not None


@pytest.mark.parametrize(("capacity", "expected"), [(240, 20), (228, 14), (204, 2)])
def test_two_equals_rise_together(capacity, expected):
    one = Made(100, 1, 0, 2 * PAGE_TOKENS, 20 * PAGE_TOKENS, 1.0, huge_bytes=1)
    shares = divide({"a": one, "b": one}, capacity)
    assert {share.tokens for share in shares.values()} == {expected * PAGE_TOKENS}
    assert all(share.co_resident for share in shares.values())


def test_who_does_not_fit_is_loaded_in_place_of_the_fewest():
    one = Made(100, 1, 0, 2 * PAGE_TOKENS, 20 * PAGE_TOKENS, 1.0, huge_bytes=1)
    models = {"a": one, "b": one, "large": replace(one, weight_bytes=150)}
    shares = divide(models, 300)
    assert shares["large"] == Share(20 * PAGE_TOKENS, 180, 1, co_resident=False)
    assert shares["a"].tokens == 20 * PAGE_TOKENS
    shares = divide(models, 210)
    assert shares["large"] == Share(20 * PAGE_TOKENS, 210, 2, co_resident=False)
    pinned = divide({**models, "a": replace(one, pinned=True)}, 255)
    assert [share.co_resident for share in pinned.values()] == [True, True, False]
    # The pinned one leaves it its least tokens.
    assert pinned["a"].tokens == 3 * PAGE_TOKENS
    assert pinned["large"].in_place_of == 1


@pytest.mark.parametrize(("capacity", "in_place_of"), [(272, 1), (271, 2)])
def test_a_place_suffices_to_the_last_byte(capacity, in_place_of):
    """Two co-resident ones take 120 each with all their tokens, the large one 152 at least."""
    one = Made(100, 1, 0, 2 * PAGE_TOKENS, 20 * PAGE_TOKENS, 1.0, huge_bytes=1)
    shares = divide({"a": one, "b": one, "large": replace(one, weight_bytes=150)}, capacity)
    assert [shares[name].co_resident for name in ("a", "b", "large")] == [True, True, False]
    assert shares["large"].in_place_of == in_place_of
    assert shares["large"].available_bytes == capacity - 120 * (2 - in_place_of)


def test_two_that_do_not_fit_together_have_all_of_it_in_turn():
    one = Made(100, 1, 0, 2 * PAGE_TOKENS, 20 * PAGE_TOKENS, 1.0, huge_bytes=1)
    for capacity, pages in ((150, 20), (110, 10)):
        shares = divide({"a": one, "b": one}, capacity)
        assert set(shares.values()) == {Share(pages * PAGE_TOKENS, capacity, 0, co_resident=False)}
