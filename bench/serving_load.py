"""The load that `serving.py` puts on each engine; plain Python, for any interpreter."""

import argparse
import random
import resource
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """`rows` prompts at once of `prompt_tokens` random tokens; each answer has `new_tokens`."""

    rows: int
    prompt_tokens: int
    new_tokens: int
    threads: int
    repetitions: int

    @property
    def tokens_per_sequence(self) -> int:
        """Positions that a prompt and its answer take."""
        return self.prompt_tokens + self.new_tokens

    def prompts(self, vocab_size: int, repetition: int) -> list[list[int]]:
        """Return token ids, the same for every engine; no prefix is shared, none comes twice."""
        rng = random.Random(repetition)
        # Special tokens lie at the end of the vocabulary, or in its first few.
        ids = range(100, vocab_size - 2000)
        return [rng.choices(ids, k=self.prompt_tokens) for _ in range(self.rows)]

    def check(self, lengths: list[int]) -> None:
        """Raise ValueError unless every answer has its tokens."""
        if lengths != [self.new_tokens] * self.rows:
            raise ValueError(f"answers have {lengths} tokens, not {self.new_tokens} each")

    def report(self, seconds: list[float]) -> dict[str, object]:
        """Return what every worker prints."""
        return {
            "threads": self.threads,
            "rows": self.rows,
            "new_tokens": self.rows * self.new_tokens,
            "seconds": seconds,
        }


def arguments(description: str | None) -> tuple[str, Load]:
    """Parse a worker's command line; return the model and the load."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    args = parser.parse_args()
    load = Load(args.rows, args.prompt_tokens, args.new_tokens, args.threads, args.repetitions)
    return args.model, load


def peak_rss_bytes() -> int:
    """Return the most resident memory this process has had, or one of its children if more."""
    usage = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in usage) * 1024
