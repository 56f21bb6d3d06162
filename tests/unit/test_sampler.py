"""From logits to a token: the native sampler against plain numpy."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tonnage._native import Arena, InputError, Sampled, Sampler, SamplingParams
from tonnage.core.errors import RequestError
from tonnage.core.sampling import MOST_INT32, SamplingOptions
from tonnage.engine.generation import native_params

EPS = float(np.finfo(np.float32).eps)


def make(vocab: int, **params: Any) -> Sampler:
    """Return a sampler; what is not given has no effect."""
    chosen = SamplingParams()
    for name, value in params.items():
        setattr(chosen, name, value)
    return Sampler(vocab, chosen)


def sample_one(sampler: Sampler, logits: np.ndarray, num_top: int = 0) -> Sampled:
    """Return one sample of a row of logits."""
    row = logits.astype(np.float32)
    arena = Arena(row.nbytes, huge_pages=False)
    arena.write(0, row.tobytes())
    return sampler.sample(arena, 0, len(row), num_top)


def tokens_of(logits: np.ndarray, count: int, **params: Any) -> list[int]:
    """Return the tokens of `count` seeds, penalties of earlier samples left out."""
    return [
        sample_one(make(len(logits), seed=seed, **params), logits).token for seed in range(count)
    ]


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return probabilities in float64."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max())
    return powers / powers.sum()


def surviving(
    logits: np.ndarray, temperature: float, top_k: int, top_p: float, min_p: float
) -> set[int]:
    """Return the tokens that top-k, then top-p, then min-p leave."""
    order = np.lexsort((np.arange(len(logits)), -logits.astype(np.float64)))
    order = order[:top_k] if top_k else order
    probabilities = softmax(logits[order], temperature)
    before = np.cumsum(probabilities) - probabilities
    keep = (before < top_p) & (probabilities >= min_p * probabilities[0])
    keep[0] = True
    return set(order[keep].tolist())


@pytest.fixture
def logits() -> np.ndarray:
    """Ten logits with a spread of about 4."""
    return (1.5 * np.random.default_rng(3).standard_normal(10)).astype(np.float32)


def test_temperature_0_takes_the_largest_and_the_first_of_equal_ones(logits: np.ndarray) -> None:
    assert set(tokens_of(logits, 20, temperature=0.0)) == {int(logits.argmax())}
    assert tokens_of(np.array([1.0, 3.0, 3.0]), 3, temperature=0.0) == [1, 1, 1]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_the_samples_follow_the_distribution(logits: np.ndarray, temperature: float) -> None:
    count = 20_000
    sampler = make(10, temperature=temperature, seed=7)
    seen = Counter(sample_one(sampler, logits).token for _ in range(count))
    expected = count * softmax(logits, temperature)
    common = expected >= 5
    # Rare ones are counted together, as the chi-square test wants.
    cells = [(seen[i], expected[i]) for i in np.flatnonzero(common)]
    if not common.all():
        rest = [i for i in range(10) if not common[i]]
        cells.append((sum(seen[i] for i in rest), max(1.0, expected[rest].sum())))
    statistic = sum((got - want) ** 2 / want for got, want in cells)
    freedom = len(cells) - 1
    # Mean and six standard deviations of chi-square.
    assert statistic < freedom + 6 * np.sqrt(2 * freedom)


def test_the_distribution_does_not_depend_on_the_way_of_truncation(logits: np.ndarray) -> None:
    # top_p just below 1 sorts; nothing else sorts not.
    sorted_counts = Counter(tokens_of(logits, 5000, top_p=0.999999))
    plain_counts = Counter(tokens_of(logits, 5000))
    for token, probability in enumerate(softmax(logits)):
        spread = 6 * np.sqrt(5000 * probability * (1 - probability))
        assert abs(sorted_counts[token] - 5000 * probability) <= spread + 1
        assert abs(plain_counts[token] - 5000 * probability) <= spread + 1


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 1000), vocab=st.sampled_from([1, 2, 5, 30]),
    temperature=st.sampled_from([0.5, 1.0, 3.0]), top_k=st.sampled_from([0, 1, 3, 100]),
    top_p=st.sampled_from([0.0, 0.2, 0.55, 0.9, 1.0]), min_p=st.sampled_from([0.0, 0.07, 0.5, 1.0]),
)  # fmt: skip
def test_truncation(
    seed: int, vocab: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    logits = np.random.default_rng(seed).standard_normal(vocab).astype(np.float32)
    limits = {"top_k": top_k, "top_p": top_p, "min_p": min_p}
    allowed = surviving(logits, temperature, **limits)
    got = set(tokens_of(logits, 60, temperature=temperature, **limits))
    assert got <= allowed
    if top_k == 1 or top_p == 0.0 or min_p == 1.0:
        assert got == {int(logits.argmax())}


def test_truncation_of_a_large_vocabulary_keeps_exactly_the_nucleus() -> None:
    logits = np.linspace(0, 1e-3, 3000).astype(np.float32)
    got = set(tokens_of(logits, 3000, top_p=0.5))
    allowed = surviving(logits, 1.0, 0, 0.5, 0.0)
    assert got <= allowed
    assert min(got) < min(allowed) + 30


def test_equal_logits_are_cut_by_token_id() -> None:
    assert set(tokens_of(np.zeros(500), 300, top_k=3)) == {0, 1, 2}


def test_the_seed_decides(logits: np.ndarray) -> None:
    first, again, other = (make(10, seed=seed) for seed in (5, 5, 6))
    runs = [[sample_one(s, logits).token for _ in range(40)] for s in (first, again, other)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert tokens_of(logits, 30) == tokens_of(logits, 30)


def test_logprobs_are_the_models_own(logits: np.ndarray) -> None:
    own = np.log(softmax(logits))
    for params in ({}, {"temperature": 0.0}, {"temperature": 2.0, "logit_bias": {3: 50.0}}):
        sample = sample_one(make(10, **params), logits, num_top=4)
        assert sample.logprob == pytest.approx(own[sample.token], abs=4 * EPS * np.abs(own).max())
        best = np.argsort(-logits)[:4]
        assert [token for token, _ in sample.top] == best.tolist()
        np.testing.assert_allclose([p for _, p in sample.top], own[best], atol=4 * EPS * 10)


def test_more_top_logprobs_than_tokens(logits: np.ndarray) -> None:
    assert len(sample_one(make(10), logits, num_top=50).top) == 10


def test_logit_bias(logits: np.ndarray) -> None:
    assert set(tokens_of(logits, 30, logit_bias={7: 100.0})) == {7}
    best = int(logits.argmax())
    assert best not in tokens_of(logits, 300, logit_bias={best: -np.inf})
    banned = {token: -np.inf for token in range(10)}
    assert 0 <= sample_one(make(10, logit_bias=banned), logits).token < 10
    assert (
        sample_one(make(10, logit_bias={99: 5.0, -1: 5.0}, temperature=0.0), logits).token == best
    )


def adjusted_choice(
    logits: list[float], prompt: list[int], sampled: list[int], **params: float
) -> int:
    """Return the greedy token after a prompt and after `sampled` tokens were forced."""
    sampler = make(len(logits), temperature=0.0, **params)
    for token in prompt:
        sampler.observe(token)
    for token in sampled:
        forced = np.full(len(logits), -1000.0)
        forced[token] = 1000
        assert sample_one(sampler, forced).token == token
    return sample_one(sampler, np.array(logits)).token


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    assert adjusted_choice([3.0, 2.0], [0], [], repetition_penalty=1.4) == 0
    assert adjusted_choice([3.0, 2.0], [0], [], repetition_penalty=1.6) == 1
    assert adjusted_choice([-2.0, -3.0], [0], [], repetition_penalty=1.6) == 1
    assert adjusted_choice([-2.0, -3.0], [], [0], repetition_penalty=1.6) == 1
    # A token of both prompt and output is penalized once.
    assert adjusted_choice([3.0, 1.6], [0, 0], [0], repetition_penalty=1.6) == 0


def test_presence_and_frequency_penalties_count_the_output_alone() -> None:
    assert adjusted_choice([3.0, 2.0], [0, 0, 0], [], presence_penalty=1.5) == 0
    assert adjusted_choice([3.0, 2.0], [], [0], presence_penalty=0.9) == 0
    assert adjusted_choice([3.0, 2.0], [], [0, 0], presence_penalty=0.9) == 0
    assert adjusted_choice([3.0, 2.0], [], [0], presence_penalty=1.1) == 1
    assert adjusted_choice([3.0, 2.0], [], [0], frequency_penalty=0.6) == 0
    assert adjusted_choice([3.0, 2.0], [], [0, 0], frequency_penalty=0.6) == 1
    assert adjusted_choice([3.0, 2.0], [], [1], presence_penalty=-1.1) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("where", [0, 5, 9])
def test_logits_that_are_no_numbers_are_refused(logits: np.ndarray, bad: float, where: int) -> None:
    logits[where] = bad
    for temperature in (0.0, 1.0):
        with pytest.raises(InputError, match="not finite"):
            sample_one(make(10, temperature=temperature), logits)


def test_no_logit_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        sample_one(make(10), np.full(10, -np.inf))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1.0), ("temperature", np.nan), ("temperature", np.inf), ("top_p", 1.1),
        ("top_p", -0.1), ("top_p", np.nan), ("min_p", 2.0), ("min_p", np.nan),
        ("repetition_penalty", 0.0), ("repetition_penalty", np.nan), ("presence_penalty", np.inf),
        ("frequency_penalty", np.nan), ("logit_bias", {1: np.nan}), ("logit_bias", {1: np.inf}),
    ],
)  # fmt: skip
def test_parameters_outside_their_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name.replace("_bias", " bias")):
        make(10, **{name: value})


def test_a_row_or_token_of_another_vocabulary_is_refused(logits: np.ndarray) -> None:
    sampler = make(10)
    for token in (-1, 10, 2**31 - 1):
        with pytest.raises(InputError, match="outside the vocabulary of 10"):
            sampler.observe(token)
    with pytest.raises(InputError, match="the row has 9 logits, the sampler 10"):
        sample_one(sampler, logits[:9])
    with pytest.raises(InputError, match="nothing to sample"):
        make(0)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=40),
    st.floats(0, 1e6, width=32), st.integers(0, 50), st.floats(0, 1, width=32),
    st.floats(0, 1, width=32),
)  # fmt: skip
def test_any_finite_logits_give_a_token(
    values: list[float], temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    logits = np.array(values, np.float32)
    params = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    sample = sample_one(make(len(logits), **params), logits)
    assert 0 <= sample.token < len(logits)
    assert sample.logprob <= 0


def bits(allowed: set[int], vocab: int) -> bytes:
    """Return a mask: token i is bit i % 8 of byte i / 8."""
    rows = np.isin(np.arange(vocab), list(allowed))
    return np.packbits(rows, bitorder="little").tobytes()


@given(
    vocab=st.integers(1, 300),
    seed=st.integers(0, 1 << 32),
    data=st.data(),
)
def test_a_mask_samples_as_if_the_others_did_not_exist(vocab: int, seed: int, data: Any) -> None:
    allowed = data.draw(st.sets(st.integers(0, vocab - 1), min_size=1))
    row = np.random.default_rng(seed).standard_normal(vocab).astype(np.float32)
    masked, plain = make(vocab, seed=seed), make(vocab, seed=seed)
    masked.set_mask(bits(allowed, vocab))
    only = np.where(np.isin(np.arange(vocab), list(allowed)), row, -np.inf)
    first = sample_one(masked, row).token
    assert first == sample_one(plain, only).token
    assert first in allowed
    # The next sample is free again.
    assert sample_one(masked, row).token == sample_one(plain, row).token


def test_a_mask_may_be_short_and_its_surplus_is_ignored() -> None:
    row = np.zeros(70, np.float32)
    sampler = make(70, temperature=0.0)
    sampler.set_mask(b"\x00\x04")
    assert sample_one(sampler, row).token == 10
    sampler.set_mask(bytes(8) + b"\x20" + b"\xff" * 9)
    assert sample_one(sampler, row).token == 69


@pytest.mark.parametrize("mask", [b"", bytes(100), bytes(8) + b"\xc0"])
def test_a_mask_that_allows_nothing_is_refused(mask: bytes) -> None:
    sampler = make(70, temperature=0.0)
    with pytest.raises(InputError, match="allows no token"):
        sampler.set_mask(mask)
    assert sample_one(sampler, np.arange(70, dtype=np.float32)).token == 69


def test_the_log_probability_is_the_models_own_under_a_mask() -> None:
    row = np.arange(10, dtype=np.float32)
    sampler = make(10, temperature=0.0)
    sampler.set_mask(bits({2}, 10))
    sampled = sample_one(sampler, row, 1)
    assert sampled.token == 2
    assert sampled.logprob == pytest.approx(float(np.log(softmax(row)[2])), rel=8 * EPS)
    assert sampled.top[0][0] == 9


def test_what_options_accept_the_sampler_takes() -> None:
    most = SamplingOptions(
        temperature=100, top_k=MOST_INT32, repetition_penalty=100, seed=(1 << 64) - 1,
        presence_penalty=-100, logit_bias={MOST_INT32: 1000.0, 0: -1000.0},
    )  # fmt: skip
    params = native_params(most, most.resolved_seed())
    assert sample_one(Sampler(4, params), np.zeros(4)).token in range(4)
    for wrong in ({"top_k": MOST_INT32 + 1}, {"logit_bias": {MOST_INT32 + 1: 1.0}}):
        with pytest.raises(RequestError, match="2147483648"):
            SamplingOptions(**wrong)  # type: ignore[arg-type]


def test_a_setting_means_what_other_engines_mean() -> None:
    # vLLM and llama.cpp: top_k -1 and 0 keep all, seed -1 is none, another negative one is a seed.
    for top_k in (-1, 0):
        assert native_params(SamplingOptions(top_k=top_k), 1).top_k == 0
    assert SamplingOptions(seed=-1).resolved_seed() != SamplingOptions(seed=-1).resolved_seed()
    assert SamplingOptions(seed=-2).resolved_seed() == (1 << 64) - 2
    assert SamplingOptions(seed=-(1 << 63)).resolved_seed() == 1 << 63
    for wrong in ({"top_k": -2}, {"seed": -(1 << 63) - 1}, {"seed": 1 << 64}):
        with pytest.raises(RequestError, match="must lie between"):
            SamplingOptions(**wrong)  # type: ignore[arg-type]
