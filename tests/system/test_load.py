"""Twice as many clients as fit, for TONNAGE_LOAD_SECONDS; midway a third of the pages goes.

Nothing may crash, the process stays within its plan, and whoever is refused is told why.
"""

import asyncio
import os
import random
from collections import Counter
from pathlib import Path
from time import monotonic

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from tonnage.core.errors import DeadlineError, OverloadError, TonnageError
from tonnage.core.sampling import SamplingOptions
from tonnage.engine import Engine
from tonnage.machine.memory_use import rss_bytes
from tonnage.serving.build import ServingOptions

SECONDS = float(os.environ.get("TONNAGE_LOAD_SECONDS", "20"))
CONTEXT = 1024
CAPACITY = 6
VOCABULARY = 300


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config("llama", max_position_embeddings=1 << 12)
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_gguf(path, tiny_model(config, seed=1), matrices("Q8_0"))


class Load:
    """Clients that ask, read, give up and ask again, and what became of it all."""

    def __init__(self, engine: Engine, rng: random.Random) -> None:
        self.engine = engine
        self.rng = rng
        self.outcomes: Counter[str] = Counter()
        self.samples: list[tuple[list[int], SamplingOptions, list[int]]] = []
        self.peak_rss_bytes = 0

    async def run(self, seconds: float) -> None:
        """Let twice as many clients as the engine serves at once go on for `seconds`."""
        end = monotonic() + seconds
        clients = [self._client(end, str(i % 3)) for i in range(2 * CAPACITY)]
        await asyncio.gather(*clients, self._shrink(seconds / 2), self._watch(end))

    async def _client(self, end: float, tenant: str) -> None:
        while monotonic() < end:
            try:
                await self._request(tenant)
            except (OverloadError, DeadlineError) as error:
                _check_told(error)
                self.outcomes[type(error).__name__] += 1
                await asyncio.sleep(0.01)

    async def _request(self, tenant: str) -> None:
        rng = self.rng
        prompt = [rng.randrange(3) for _ in range(rng.choice((1, 70, 300)))]
        prompt += [rng.randrange(VOCABULARY) for _ in range(rng.randrange(1, 400))]
        options = SamplingOptions(max_tokens=rng.randrange(1, 300), seed=1, ignore_eos=True)
        gives_up_after = rng.randrange(1, 50) if rng.random() < 0.25 else 1 << 30
        deadline_s = rng.random() if rng.random() < 0.1 else None
        stream = self.engine.stream(
            prompt, options, tenant=tenant, priority=rng.choice((0, 0, 0, 1)), deadline_s=deadline_s
        )
        count = 0
        async with stream:
            async for _ in stream:
                count += 1
                if count >= gives_up_after:
                    self.outcomes["given up"] += 1
                    return
        generation = stream.generation
        self.outcomes[str(generation.finish_reason)] += 1
        if generation.finish_reason == "length" and rng.random() < 0.02:
            self.samples.append((prompt, options, generation.tokens))

    async def _shrink(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        plan = self.engine.plan
        self.engine.set_budget(plan.total_bytes - plan.kv.nbytes // 3)

    async def _watch(self, end: float) -> None:
        while monotonic() < end:
            self.peak_rss_bytes = max(self.peak_rss_bytes, rss_bytes())
            await asyncio.sleep(0.2)


def _check_told(error: TonnageError) -> None:
    text = str(error)
    assert text.endswith(".")
    assert any(character.isdigit() for character in text)
    if isinstance(error, OverloadError):
        assert error.retry_after_s is not None or error.missing_bytes > 0


def test_twice_the_load_and_a_shrinking_budget(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ServingOptions(max_waiting=CAPACITY - 2)
    with Engine.open(
        str(model), context=CONTEXT, threads=2, concurrency=CAPACITY, serving=options
    ) as engine:
        load = Load(engine, random.Random(3))
        asyncio.run(load.run(SECONDS))
        scheduler = engine._serving.loop.scheduler
        assert scheduler.num_running == scheduler.num_waiting == 0
        pools = scheduler.cache.pools
        assert all(pool.num_used == 0 for pool in pools)
        scheduler.cache.check()
        kv = next(item for item in engine.ledger().items if item.name == "kv pages")
        with capsys.disabled():
            print(
                f"\n  {dict(load.outcomes)}, ladder {scheduler.ladder.counts}, peak "
                f"{load.peak_rss_bytes >> 20} of {engine.plan.total_bytes >> 20} MiB", end="",
            )  # fmt: skip
        assert load.peak_rss_bytes <= engine.plan.total_bytes
        # What was given up is no longer resident, but for the ends of runs of pages.
        assert kv.now_bytes <= kv.planned_bytes - engine.plan.kv.nbytes // 3 + (64 << 10)
        for prompt, one, tokens in load.samples[:20]:
            assert engine.generate(prompt, one).complete().tokens == tokens
    assert load.outcomes["OverloadError"] > 0
    assert load.outcomes["given up"] > 0
    assert load.outcomes["length"] > SECONDS
