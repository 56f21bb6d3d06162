"""Drafts change nothing but the number of steps: tokens, texts, logits and log probabilities.

The drafts of these tests go on rightly for a random number of tokens and are nonsense after that.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from system.test_serving import CONTEXT, SIZES, requests, result
from tonnage.core.drafts import Growing
from tonnage.core.plan import KV_FORMATS
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.engine import Engine
from tonnage.engine.sample_rows import Round

Asked = list[tuple[list[int], SamplingOptions]]
# Enough rows of logits for four requests with a few drafts each, and for one with many.
MAX_LOGIT_ROWS = 12


@pytest.fixture(scope="module", params=SIZES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(request.param, max_position_embeddings=1 << 12, **SIZES[request.param])
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_gguf(path, tiny_model(config, seed=1), matrices("Q8_0"))


def open_engine(model: Path, threads: int, kv_format: str = "f16", concurrency: int = 4) -> Engine:
    return Engine.open(
        str(model), context=CONTEXT, threads=threads, concurrency=concurrency,
        max_logit_rows=MAX_LOGIT_ROWS, kv_format=kv_format,
    )  # fmt: skip


class Guesses:
    """Proposes what is known to follow, for a while, then what cannot."""

    def __init__(self, whole: list[list[int]], rng: random.Random, vocab_size: int) -> None:
        """whole: prompts with what a run without drafts gave."""
        self._whole = whole
        self._rng = rng
        self._vocab_size = vocab_size

    def propose(self, requests: Sequence[Growing], *, beside_prompts: bool) -> dict[int, list[int]]:
        return {one.request_id: self._guess(one.tokens, one.most) for one in requests}

    def observe(self, elapsed_ns: int, rows: Iterable[tuple[int, int]]) -> None:
        assert elapsed_ns > 0
        assert all(0 <= right <= drafts for drafts, right in rows)

    def _guess(self, tokens: Sequence[int], most: int) -> list[int]:
        begin = len(tokens)
        known = next((one for one in self._whole if one[:begin] == list(tokens)), [])
        right = known[begin:][: self._rng.randrange(most + 1)]
        wrong = [self._rng.randrange(-1, self._vocab_size + 1) for _ in range(most + 2)]
        return [*right, *wrong][: self._rng.randrange(most + 3)]


class Run:
    """What an engine gives for requests that all run at once, and what it took."""

    def __init__(self, engine: Engine, made: Asked) -> None:
        loop, runtime = engine._serving.loop, engine.runtime
        self.logits: dict[int, list[str]] = {}
        self.num_steps = self.most_accepted = 0
        draw_rows, commit = loop._sample_rows, loop.scheduler.commit

        def note_logits(found: Round, *rest: object) -> None:
            for (_, index, _), job in zip(found.rows, found.jobs, strict=True):
                of_job = self.logits.setdefault(jobs_by_id[job.id], [])
                of_job.append(sha256(runtime.logits(index)).hexdigest())
            draw_rows(found, *rest)

        def note_step(chunks: list, sampled: dict[int, tuple[int, ...]], elapsed_ns: int) -> None:
            self.num_steps += 1
            self.most_accepted = max(
                [self.most_accepted, *(len(one) - 1 for one in sampled.values())]
            )
            commit(chunks, sampled, elapsed_ns)

        loop._sample_rows, loop.scheduler.commit = note_logits, note_step
        generations = [engine._begin(*each, raw=False) for each in made]
        jobs = [engine._serving._job(one, _parameters(), None) for one in generations]
        jobs_by_id = {job.id: number for number, job in enumerate(jobs)}
        loop.submit(*jobs)
        loop.advance(lambda: all(job.ended for job in jobs))
        del loop._sample_rows, loop.scheduler.commit
        self.results = [result(one) for one in generations]
        self.whole = [[*one.prompt, *one.tokens] for one in generations]
        self.texts = [one.text for one in generations]
        assert sum(pool.num_used for pool in loop.scheduler.cache.pools) == 0
        loop.scheduler.cache.check()


def _parameters() -> object:
    from tonnage.engine.job import RequestParameters

    return RequestParameters()


def with_drafts(engine: Engine, plain: Run, made: Asked, seed: int) -> Run:
    """Run the same with drafts and assert that nothing is different."""
    loop = engine._serving.loop
    loop.draft_source = Guesses(plain.whole, random.Random(seed), engine.plan.vocab_size)
    drafted = Run(engine, made)
    assert drafted.results == plain.results
    assert drafted.logits == plain.logits
    return drafted


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kv_format", KV_FORMATS)
def test_a_batch_of_four_gets_the_same_bits(model: Path, kv_format: str, threads: int) -> None:
    made = requests(12, seed=3)
    with open_engine(model, threads, kv_format) as engine:
        plain = Run(engine, made)
    for seed in range(2):
        with open_engine(model, threads, kv_format) as engine:
            drafted = with_drafts(engine, plain, made, seed)
        assert drafted.most_accepted >= 3
        assert drafted.num_steps < plain.num_steps


def test_one_request_gets_the_same_bits_over_pages_and_windows(model: Path) -> None:
    """So long that pages fill and leave the window while drafts are accepted and rejected."""
    for options in (
        SamplingOptions(max_tokens=250, ignore_eos=True, temperature=0, logprobs=2),
        SamplingOptions(max_tokens=250, ignore_eos=True, seed=5, logprobs=2, top_p=0.9),
    ):
        made = [([1, 2, 3], options)]
        with open_engine(model, 2, concurrency=1) as engine:
            plain = Run(engine, made)
        with open_engine(model, 2, concurrency=1) as engine:
            drafted = with_drafts(engine, plain, made, seed=1)
        assert drafted.most_accepted == MAX_LOGIT_ROWS - 1
        assert drafted.num_steps < plain.num_steps // 2


class Parity:
    """A constraint with a state: tokens by turns even and odd."""

    def __init__(self) -> None:
        self._count = 0

    def mask(self) -> bytes:
        return (b"\x55" if self._count % 2 == 0 else b"\xaa") * 1024

    def accept(self, token_id: int) -> None:
        assert token_id % 2 == self._count % 2
        self._count += 1


@pytest.fixture
def opened(model: Path) -> Iterator[Engine]:
    with open_engine(model, 1) as engine:
        yield engine


def test_every_end_is_where_it_is_without_drafts(opened: Engine) -> None:
    """Constraints, stop strings, end tokens and max_tokens are looked at token by token."""
    made = [
        (prompt, replace(options, max_tokens=30, constraint=Parity if index % 3 == 0 else None))
        for index, (prompt, options) in enumerate(requests(9, seed=4))
    ]
    plain = Run(opened, made)
    stopped = [
        (prompt, replace(options, stop=(text[len(text) // 2 :][:2],), ignore_eos=False))
        for (prompt, options), text in zip(made, plain.texts, strict=True)
    ]
    ends = Run(opened, stopped)
    assert sum(one[2] == "stop" for one in ends.results) >= 5
    with_drafts(opened, plain, made, seed=1)
    # The source still tells what would have come without the stop strings.
    drafted = Run(opened, stopped)
    assert drafted.results == ends.results
    assert drafted.logits == ends.logits
    one_token = [(prompt, replace(options, max_tokens=1)) for prompt, options in made]
    assert [len(one[0]) for one in Run(opened, one_token).results] == [1] * len(made)


def test_what_was_rejected_is_no_prefix(opened: Engine) -> None:
    """A second request finds the tokens of the first and nothing of what was only proposed."""
    options = SamplingOptions(max_tokens=150, ignore_eos=True, temperature=0, logprobs=0)
    plain = Run(opened, [([7, 8, 9], options)])
    opened._serving.loop.scheduler.cache.tree.clear()
    with_drafts(opened, plain, [([7, 8, 9], options)], seed=2)
    opened._serving.loop.draft_source = None
    (known,) = plain.whole
    again = opened.generate([*known, 5], max_tokens=20, ignore_eos=True, temperature=0).complete()
    assert again.num_cached_tokens >= 128
    opened._serving.loop.scheduler.cache.tree.clear()
    alone = opened.generate([*known, 5], max_tokens=20, ignore_eos=True, temperature=0).complete()
    assert alone.num_cached_tokens == 0
    assert again.tokens == alone.tokens


@pytest.mark.parametrize("after", ["sample", "_sample_rows", "_sample"])
def test_an_interrupted_step_with_drafts_loses_nothing(model: Path, after: str) -> None:
    made = requests(4, seed=8)
    with open_engine(model, 1) as engine:
        plain = Run(engine, made)
    with open_engine(model, 1) as engine:
        loop = engine._serving.loop
        loop.draft_source = Guesses(plain.whole, random.Random(3), engine.plan.vocab_size)
        place = engine.runtime if after == "sample" else loop
        calls, call = 0, getattr(place, after)

        def interrupted(*args: object) -> None:
            nonlocal calls
            calls += 1
            call(*args)
            if calls in (2, 4, 6):
                raise KeyboardInterrupt

        setattr(place, after, interrupted)
        begun = [engine._begin(*each, raw=False) for each in made]
        jobs = [engine._serving._job(one, _parameters(), None) for one in begun]
        loop.submit(*jobs)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                loop.advance(lambda: all(job.ended for job in jobs))
        loop.advance(lambda: all(job.ended for job in jobs))
        assert [result(one) for one in begun] == plain.results
