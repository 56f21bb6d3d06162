"""Sampling from large vocabularies in blocks, and from several rows by a team of threads."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tonnage._native import (
    Arena,
    Executor,
    InputError,
    Sampled,
    Sampler,
    SamplingParams,
    has_isa,
    sample_rows,
)

VOCAB = 20_011


def sampler(vocab: int, **params: Any) -> Sampler:
    chosen = SamplingParams()
    for name, value in params.items():
        setattr(chosen, name, value)
    return Sampler(vocab, chosen)


def rows_of(count: int, vocab: int = VOCAB, seed: int = 0) -> np.ndarray:
    """Return logits as models have them: most far below the best."""
    return (4 * np.random.default_rng(seed).standard_normal((count, vocab))).astype(np.float32)


def sampled_by(
    threads: int, rows: np.ndarray, samplers: list[Sampler], num_top: int = 2, isa: str = "scalar"
) -> list[Sampled | str]:
    """Return what a team samples from all rows at once, the last row with the first sampler."""
    arena = Arena(rows.nbytes, huge_pages=False)
    arena.write(0, rows.tobytes())
    found: list[Sampled | str] = []
    wanted = [(one, len(rows) - 1 - index, num_top) for index, one in enumerate(samplers)]
    sample_rows(Executor(isa, threads), arena, 0, rows.shape[1], wanted, found)
    return found


def told(sampled: list[Sampled | str]) -> list[object]:
    return [s if isinstance(s, str) else (s.token, s.logprob, s.top) for s in sampled]


KINDS: list[dict[str, Any]] = [
    {"temperature": 0.0}, {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
    {"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.9}, {"temperature": 2.5, "min_p": 0.01},
    {"temperature": 0.0, "repetition_penalty": 1.3, "logit_bias": {5: 2.0}},
    {"temperature": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.2, "top_k": 5},
]  # fmt: skip


def test_a_team_samples_what_each_row_gives_alone() -> None:
    rows = rows_of(len(KINDS))
    expected: list[object] = []
    for index, kind in enumerate(KINDS):
        one = sampler(VOCAB, seed=index, **kind)
        expected.append([told(sampled_by(1, rows[index][None], [one])) for _ in range(3)])
    for threads in (1, 2, 5):
        many = [sampler(VOCAB, seed=index, **kind) for index, kind in enumerate(KINDS)]
        rounds = [told(sampled_by(threads, rows[::-1], many)) for _ in range(3)]
        for index in range(len(KINDS)):
            assert [[one[index]] for one in rounds] == expected[index]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocab", [1, 255, 256, 300, VOCAB])
def test_every_instruction_set_samples_the_same(kind: dict[str, Any], vocab: int) -> None:
    rows = rows_of(1, vocab, seed=vocab)
    results = []
    for isa in ("scalar", "avx2", "avx512"):
        if has_isa(isa):
            one = sampler(vocab, seed=3, **kind)
            results.append([told(sampled_by(1, rows, [one], isa=isa)) for _ in range(8)])
    assert all(one == results[0] for one in results)


def test_a_broken_row_leaves_the_others_alone() -> None:
    rows = rows_of(3)
    rows[1, 77] = np.nan
    found = sampled_by(2, rows, [sampler(VOCAB, temperature=0.0) for _ in range(3)])
    assert isinstance(found[1], str)
    assert "not finite" in found[1]
    assert [s.token for s in (found[0], found[2]) if not isinstance(s, str)] == [
        int(rows[2].argmax()), int(rows[0].argmax()),
    ]  # fmt: skip


def test_rows_and_samplers_that_come_twice_are_refused() -> None:
    arena, team = Arena(4 * 30, huge_pages=False), Executor("scalar", 1)
    one, other = sampler(10), sampler(10)
    found: list[Sampled | str] = []
    for rows in ([(one, 0, -1), (one, 1, -1)], [(one, 0, -1), (other, 0, -1)]):
        with pytest.raises(InputError, match="comes twice"):
            sample_rows(team, arena, 0, 10, rows, found)
    for row in (-1, 3, 10**6):
        with pytest.raises(InputError, match=r"the row is|outside the arena"):
            sample_rows(team, arena, 0, 10, [(one, row, -1)], found)
    with pytest.raises(InputError, match="the row has 9 logits"):
        sample_rows(team, arena, 0, 9, [(one, 0, -1)], found)
    assert found == []


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 1100), st.integers(0, 1 << 32), st.integers(1, 9))
def test_blocks_find_the_first_of_the_largest(vocab: int, seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    row = rng.integers(0, levels, (1, vocab)).astype(np.float32)
    row[row == 0] = -np.inf
    row[0, rng.integers(vocab)] = 1
    (one,) = sampled_by(1, row, [sampler(vocab, temperature=0.0)], 5)
    assert isinstance(one, Sampled)
    assert one.token == int(row[0].argmax())
    best = np.lexsort((np.arange(vocab), -row[0].astype(np.float64)))[:5]
    assert [token for token, _ in one.top] == best.tolist()


@pytest.mark.parametrize("kind", [{}, {"top_p": 0.97}, {"min_p": 0.002}, {"top_k": 500}])
def test_a_large_vocabulary_is_sampled_by_its_distribution(kind: dict[str, float]) -> None:
    (row,) = rows_of(1, 3000, seed=4) / 2
    probabilities = np.exp(row.astype(np.float64) - row.max())
    order = np.argsort(-probabilities)
    shares = probabilities[order] / probabilities.sum()
    keep = np.cumsum(shares) - shares < kind.get("top_p", 1.0)
    keep &= probabilities[order] >= kind.get("min_p", 0.0)
    keep[int(kind.get("top_k", 3000)) :] = False
    allowed = np.zeros(3000, bool)
    allowed[order[keep]] = True
    count, one = 6000, sampler(3000, seed=11, **kind)
    seen = np.bincount([_token(one, row) for _ in range(count)], minlength=3000)
    assert not seen[~allowed].any()
    expected = count * np.where(allowed, probabilities, 0) / probabilities[allowed].sum()
    # By ranges of about a hundredth each: the mean and six standard deviations of chi-square.
    edges = np.searchsorted(np.cumsum(expected), np.linspace(0, count, 101)[1:-1])
    got, want = (np.add.reduceat(x, np.unique([0, *edges])) for x in (seen, expected))
    some = want > 5
    statistic = ((got - want)[some] ** 2 / want[some]).sum()
    assert statistic < some.sum() + 6 * np.sqrt(2 * some.sum())


def _token(one: Sampler, row: np.ndarray) -> int:
    arena = Arena(row.nbytes, huge_pages=False)
    arena.write(0, row.tobytes())
    return one.sample(arena, 0, len(row), -1).token


@pytest.mark.parametrize("scale", [0.01, 3.0, 40.0])
def test_log_probabilities_of_a_large_vocabulary(scale: float) -> None:
    row = (scale * np.random.default_rng(1).standard_normal((1, 151_936))).astype(np.float32)
    wide = row[0].astype(np.float64)
    norm = wide.max() + np.log(np.exp(wide - wide.max()).sum())
    (one,) = sampled_by(1, row, [sampler(151_936, seed=3)], 20)
    assert isinstance(one, Sampled)
    best = np.argsort(-wide)[:20]
    assert [token for token, _ in one.top] == best.tolist()
    # Every weight is within two units in the last place; sums of 16 lanes of a block add sixteen.
    bound = 32 * np.finfo(np.float32).eps * max(1.0, np.abs(wide[best] - norm).max())
    np.testing.assert_allclose([p for _, p in one.top], wide[best] - norm, atol=bound, rtol=0)
    assert one.logprob == pytest.approx(wide[one.token] - norm, abs=bound + 1e-7 * abs(norm))


def test_a_penalty_is_seen_by_the_block() -> None:
    row = np.zeros((1, 1000), np.float32)
    row[0, 300], row[0, 900] = 5.0, 4.0
    one = sampler(1000, temperature=0.0, presence_penalty=2.0)
    assert [_token(one, row[0]) for _ in range(3)] == [300, 900, 300]
