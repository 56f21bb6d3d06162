"""Twice as many clients as fit, for so many seconds; midway a third of the pages goes.

Run as a program, so that the process weighs what a user's does; prints what came of it as JSON.
With the file that holds the limit of its own cgroup, it lowers that limit instead, raises it again
in the end, and tells the engine nothing.

Run: python -m support.random_load MODEL SECONDS [LIMIT_FILE]
"""

import asyncio
import json
import os
import random
import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from errno import EBUSY
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

from tonnage.core.errors import DeadlineError, OverloadError, TonnageError
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.build import ServingOptions
from tonnage.engine.disk_tier import DiskOptions
from tonnage.engine.engine import Engine
from tonnage.engine.limit_watch import LOOK_EVERY_NS
from tonnage.machine.limits import read_limits
from tonnage.machine.memory_use import rss_bytes

CONTEXT = 1024
CAPACITY = 6
NUM_SAMPLES = 20
NUM_PARTS = 12  # of the time, for the growth of the process
DISK_BYTES = 64 << 20
MOST_SAID = 100
LIMIT_STEPS = 12
LIMIT_ROOM_BYTES = 2 << 20  # what grows before the engine has looked
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Seen:
    """What the clients met. Times in seconds; most_rss_bytes: in each part of the time.

    said: the first word of each sentence that is logged after the shrinking, and how many pages
    could be taken in the group that had fewest.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[list[int], SamplingOptions, list[int]]] = field(default_factory=list)
    first_token_s: list[float] = field(default_factory=list)
    gap_s: list[float] = field(default_factory=list)
    most_rss_bytes: list[int] = field(default_factory=lambda: [0] * NUM_PARTS)
    said: list[tuple[str, int]] = field(default_factory=list)


class Load:
    """Clients that ask, read, give up and ask again, and what became of it all."""

    def __init__(self, engine: Engine, rng: random.Random, limit_file: Path | None = None) -> None:
        self.engine = engine
        self.rng = rng
        self.seen = Seen()
        self.is_shrunk = False
        self._limit_file = limit_file
        # A limit goes so far down that what runs has to give way at once.
        lost = engine.plan.kv.nbytes * 17 // 20 if limit_file else engine.plan.kv.nbytes // 3
        self.shrunk_bytes = (engine.plan.total_bytes - lost) // PAGE_BYTES * PAGE_BYTES

    def note(self, sentence: str) -> None:
        """Take a sentence that is logged when pages are short."""
        cache = self.engine._serving.loop.scheduler.cache
        # The engine looks at limits now and then: what gives way before is not of interest.
        begins = bool(self.seen.said) or sentence.startswith("KV")
        if not self.is_shrunk or not begins or "are waiting already" in sentence:
            return
        if len(self.seen.said) < MOST_SAID:
            available = min(cache.num_available(group) for group in range(len(cache.pools)))
            self.seen.said.append((sentence.split()[0], available))

    async def run(self, seconds: float) -> None:
        """Let twice as many clients as the engine serves at once go on for `seconds`."""
        begin = monotonic()
        clients = [self._client(begin + seconds, str(i % 3)) for i in range(2 * CAPACITY)]
        await asyncio.gather(*clients, self._shrink(seconds / 2), self._watch(begin, seconds))

    async def _client(self, end: float, tenant: str) -> None:
        while monotonic() < end:
            try:
                await self._request(tenant)
            except (OverloadError, DeadlineError) as error:
                check_told(error)
                self.seen.outcomes[type(error).__name__] += 1
                await asyncio.sleep(0.01)

    async def _request(self, tenant: str) -> None:
        rng, seen = self.rng, self.seen
        vocabulary = self.engine.plan.vocab_size
        prompt = [rng.randrange(3) for _ in range(rng.choice((1, 70, 300)))]
        prompt += [rng.randrange(vocabulary) for _ in range(rng.randrange(1, 400))]
        options = SamplingOptions(max_tokens=rng.randrange(1, 300), seed=1, ignore_eos=True)
        gives_up_after = rng.randrange(1, 50) if rng.random() < 0.25 else 1 << 30
        deadline_s = rng.random() if rng.random() < 0.1 else None
        stream = self.engine.stream(
            prompt, options, tenant=tenant, priority=rng.choice((0, 0, 0, 1)), deadline_s=deadline_s
        )
        count, last, gap = 0, monotonic(), 0.0
        async with stream:
            async for _ in stream:
                now = monotonic()
                if count == 0:
                    seen.first_token_s.append(now - last)
                else:
                    gap = max(gap, now - last)
                count, last = count + 1, now
                if count >= gives_up_after:
                    seen.outcomes["given up"] += 1
                    return
        seen.gap_s.append(gap)
        generation = stream.generation
        seen.outcomes[str(generation.finish_reason)] += 1
        full = len(seen.samples) == NUM_SAMPLES
        if generation.finish_reason == "length" and not full and rng.random() < 0.02:
            seen.samples.append((prompt, options, generation.tokens))

    async def _shrink(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self.is_shrunk = True
        if self._limit_file is None:
            self.engine.set_budget(self.shrunk_bytes)
            return
        await self._lower_limit(self._limit_file)

    async def _lower_limit(self, file: Path) -> None:
        """Lower the limit in steps, each down to a little more than the group holds then.

        Below that version 1 takes none and version 2 kills. Where a group that stays within its
        pages holds more than the last step would leave, that one is not taken.
        """
        for _ in range(LIMIT_STEPS):
            now, limits = int(file.read_text()), read_limits()
            # What the process may come to is more again after each step: caches of the kernel go.
            excess = limits.process_bytes - self.shrunk_bytes
            limit = now - min(max(0, excess), max(0, limits.free_bytes - LIMIT_ROOM_BYTES))
            try:
                file.write_text(str(limit))
            except OSError as error:
                # Version 1 says so as long as it is busy writing pages of files.
                if error.errno != EBUSY:
                    raise
            await asyncio.sleep(0.4)

    def raised(self) -> int:
        """Raise the limit again, if it was lowered; return the bytes of pages a little later."""
        if self._limit_file is not None:
            self._limit_file.write_text(str(1 << 30))
            for _ in range(2):  # readings
                sleep(LOOK_EVERY_NS / 1e9)
                self.engine.generate([1], max_tokens=1).complete()
        return self.engine._serving.loop.scheduler.cache.total_bytes

    async def _watch(self, begin: float, seconds: float) -> None:
        most = self.seen.most_rss_bytes
        while (part := int(NUM_PARTS * (monotonic() - begin) / seconds)) < NUM_PARTS:
            most[part] = max(most[part], rss_bytes())
            await asyncio.sleep(0.2)


def check_told(error: TonnageError) -> None:
    """Assert that a refusal says why, in numbers, and what to do."""
    text = str(error)
    assert text.endswith(".")
    assert any(character.isdigit() for character in text)
    if isinstance(error, OverloadError):
        assert error.retry_after_s is not None or error.missing_bytes > 0


def quantiles(values: list[float]) -> list[float]:
    """Return the median, the 95th percentile and the largest, in seconds."""
    ordered = sorted(values)
    return [round(ordered[int(share * (len(ordered) - 1))], 3) for share in (0.5, 0.95, 1)]


def told(load: Load) -> dict[str, Any]:
    """Return what came of it; the samples are asked again, alone."""
    engine, seen = load.engine, load.seen
    scheduler = engine._serving.loop.scheduler
    scheduler.cache.check()
    kv = next(item for item in engine.ledger().items if item.name == "kv pages")
    # What no longer fits into the pages that are left would be refused.
    left_tokens = engine.plan.kv.page_tokens * (min(p.num_total for p in scheduler.cache.pools) - 2)
    samples = [one for one in seen.samples if len(one[0]) + len(one[2]) < left_tokens]
    result = {
        "num_left": scheduler.num_running + scheduler.num_waiting,
        "num_used_pages": sum(pool.num_used for pool in scheduler.cache.pools),
        "outcomes": dict(seen.outcomes),
        "pressure": scheduler.pressure.counts,
        "said": seen.said,
        "num_disk_hits": scheduler.cache.tree.store.store.counts.hits,
        "first_token_s": quantiles(seen.first_token_s),
        "longest_gap_s": quantiles(seen.gap_s),
        "most_rss_bytes": seen.most_rss_bytes,
        "planned_bytes": engine.plan.total_bytes,
        "shrunk_bytes": load.shrunk_bytes,
        "left_bytes": engine.plan.total_bytes - engine.plan.kv.nbytes + scheduler.cache.total_bytes,
        "kv_bytes": engine.plan.kv.nbytes,
        "kv_allowed_bytes": scheduler.cache.total_bytes,
        "num_given_up": sum(
            group.num_pages - pool.num_total
            for group, pool in zip(scheduler.cache.groups, scheduler.cache.pools, strict=True)
        ),
        "kv_planned_bytes": kv.planned_bytes,
        "kv_now_bytes": kv.now_bytes,
        "num_samples": len(samples),
        "num_same": sum(
            engine.generate(prompt, one).complete().tokens == tokens
            for prompt, one, tokens in samples
        ),
    }
    return {**result, "kv_raised_bytes": load.raised()}


def main(model: str, seconds: float, limit_file: Path | None) -> None:
    """Run and print."""
    # What event loop and libraries take belongs to the process before the plan is made.
    with Engine.open(model, context=CONTEXT, threads=2, concurrency=2) as first:
        asyncio.run(Load(first, random.Random(2)).run(2))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        load: Load | None = None
        options = ServingOptions(
            max_waiting=CAPACITY - 2,
            disk=DiskOptions(DISK_BYTES, folder),
            log=lambda sentence: load.note(sentence),
        )
        engine = stack.enter_context(
            Engine.open(model, context=CONTEXT, threads=2, concurrency=CAPACITY, serving=options)
        )
        load = Load(engine, random.Random(3), limit_file)
        asyncio.run(load.run(seconds))
        result = told(load)
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
