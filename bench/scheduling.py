"""What a long prompt does to running streams, and what a repeated prefix saves.

Prints the longest gap between two tokens of a stream while a prompt of --prompt tokens is read,
with the bound and without; the loss of total throughput that the bound costs; and the time to the
first token of a repeated prompt beside the first time. Run on a quiet machine:
python bench/scheduling.py MODEL [--threads 2] [--stall-ms 200]
"""

import argparse
import asyncio
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from time import perf_counter_ns

from tonnage.core.sampling import SamplingOptions
from tonnage.engine.build import ServingOptions
from tonnage.engine.engine import Engine

UNBOUNDED_NS = 1 << 60


@dataclass
class Figures:
    """Of one run: longest gap of any stream, all its tokens (read and written) per second."""

    longest_gap_ms: float
    tokens_per_s: float
    first_token_ms: float


def tokens(engine: Engine, count: int, salt: int) -> list[int]:
    """Return ids that no other salt begins with."""
    vocab = engine.plan.vocab_size
    return [(7919 * index + 104729 * salt + 17) % vocab for index in range(count)]


async def run(engine: Engine, args: argparse.Namespace, salt: int) -> Figures:
    """Let a prompt arrive when every stream has written a quarter of its tokens."""
    options = SamplingOptions(max_tokens=args.tokens, temperature=0, ignore_eos=True)
    times: list[list[int]] = [[] for _ in range(args.streams)]
    written = [0] * args.streams
    arrived = asyncio.Event()

    async def write(index: int) -> None:
        async for piece in engine.stream(tokens(engine, 64, 100 * salt + index), options):
            times[index].append(perf_counter_ns())
            written[index] += len(piece.tokens)
            if min(written) >= args.tokens // 4:
                arrived.set()

    async def read() -> int:
        await arrived.wait()
        begin = perf_counter_ns()
        prompt = tokens(engine, args.prompt, 100 * salt + 99)
        async for _ in engine.stream(prompt, options, max_tokens=1):
            pass
        return perf_counter_ns() - begin

    begin = perf_counter_ns()
    *_, first_ns = await asyncio.gather(*(write(i) for i in range(args.streams)), read())
    elapsed_ns = perf_counter_ns() - begin
    gaps = [b - a for one in times for a, b in pairwise(one)]
    total = args.streams * (64 + args.tokens) + args.prompt
    return Figures(max(gaps) / 1e6, total / elapsed_ns * 1e9, first_ns / 1e6)


def gaps(args: argparse.Namespace) -> None:
    """Print bounded beside unbounded, in turns."""
    found: dict[str, list[Figures]] = {"bounded": [], "unbounded": []}
    engines = {}
    for name, stall_ns in (("bounded", args.stall_ms * 1_000_000), ("unbounded", UNBOUNDED_NS)):
        engines[name] = Engine.open(
            args.model, context=args.prompt + 64, threads=args.threads,
            concurrency=args.streams + 1, serving=ServingOptions(max_stall_ns=stall_ns),
        )  # fmt: skip
    for salt in range(args.repeat):
        for name, engine in engines.items():
            found[name].append(asyncio.run(run(engine, args, salt)))
    for name, figures in found.items():
        engines[name].close()
        print(
            f"{name:>10}: longest gap {max(f.longest_gap_ms for f in figures):8.1f} ms, "
            f"{median(f.tokens_per_s for f in figures):8.1f} tokens/s in all, "
            f"first token of the prompt {median(f.first_token_ms for f in figures):8.1f} ms"
        )
    pair = [median(f.tokens_per_s for f in found[name]) for name in ("bounded", "unbounded")]
    print(f"bound {args.stall_ms} ms, throughput lost {1 - pair[0] / pair[1]:.1%}")


def prefix(args: argparse.Namespace) -> None:
    """Print the time to the first token, cold and again, of prompts one after another."""
    with Engine.open(args.model, context=args.prompt + 64, threads=args.threads) as engine:
        shares = []
        for salt in range(1, args.repeat + 2):
            prompt = tokens(engine, args.prompt, salt)
            made = [engine.generate(prompt, max_tokens=1).complete() for _ in range(2)]
            cold, warm = (one.time_to_first_token_ns / 1e6 for one in made)
            print(
                f"time to first token: cold {cold:.1f} ms, again {warm:.2f} ms, "
                f"{made[1].num_cached_tokens:,} tokens cached"
            )
            shares.append(warm / cold)
        print(f"again / cold {median(shares):.2%} (median)")


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--prompt", type=int, default=2000)
    parser.add_argument("--stall-ms", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    gaps(args)
    prefix(args)


if __name__ == "__main__":
    main()
