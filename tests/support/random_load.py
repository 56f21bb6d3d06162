"""Twice as many clients as fit, for so many seconds; midway a third of the pages goes.

Run as a program, so that the process weighs what a user's does; prints what came of it as JSON.
"""

import asyncio
import json
import random
import sys
from collections import Counter
from time import monotonic

from tonnage.core.errors import DeadlineError, OverloadError, TonnageError
from tonnage.core.sampling import SamplingOptions
from tonnage.engine import Engine
from tonnage.machine.memory_use import rss_bytes
from tonnage.serving.build import ServingOptions

CONTEXT = 1024
CAPACITY = 6
VOCABULARY = 300
NUM_SAMPLES = 20


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
        full = len(self.samples) == NUM_SAMPLES
        if generation.finish_reason == "length" and not full and rng.random() < 0.02:
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


def main(model: str, seconds: float) -> None:
    """Run and print."""
    # What event loop and libraries take belongs to the process before the plan is made.
    with Engine.open(model, context=CONTEXT, threads=2, concurrency=2) as first:
        asyncio.run(Load(first, random.Random(2)).run(2))
    options = ServingOptions(max_waiting=CAPACITY - 2)
    with Engine.open(
        model, context=CONTEXT, threads=2, concurrency=CAPACITY, serving=options
    ) as engine:
        load = Load(engine, random.Random(3))
        asyncio.run(load.run(seconds))
        scheduler = engine._serving.loop.scheduler
        scheduler.cache.check()
        kv = next(item for item in engine.ledger().items if item.name == "kv pages")
        told = {
            "num_left": scheduler.num_running + scheduler.num_waiting,
            "num_used_pages": sum(pool.num_used for pool in scheduler.cache.pools),
            "outcomes": dict(load.outcomes),
            "ladder": {str(rung): count for rung, count in scheduler.ladder.counts.items()},
            "peak_rss_bytes": load.peak_rss_bytes,
            "planned_bytes": engine.plan.total_bytes,
            "kv_bytes": engine.plan.kv.nbytes,
            "kv_planned_bytes": kv.planned_bytes,
            "kv_now_bytes": kv.now_bytes,
            "num_samples": len(load.samples),
            "num_same": sum(
                engine.generate(prompt, one).complete().tokens == tokens
                for prompt, one, tokens in load.samples
            ),
        }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
