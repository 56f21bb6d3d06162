"""A program: open and close a model again and again, two engines at once, and print what stays.

Prints one JSON object: resident bytes behind each cycle. Only the standard library and tonnage.

Run: python -m support.cycles MODEL NUM_CYCLES
"""

import json
import sys

from tonnage.engine.engine import Engine
from tonnage.machine.memory_use import rss_bytes


def cycle(model: str, turn: int) -> None:
    """Open two engines, let both answer, close one before the other."""
    options = {"max_tokens": 3, "ignore_eos": True, "seed": turn}
    with Engine.open(model, context=128, threads=1 + turn % 2) as one:
        one.generate("Hello", temperature=1.0, **options).complete()
        with Engine.open(model, context=256, threads=2) as two:
            two.generate("Hello there", temperature=0.0, raw=True, **options).complete()
            one.ledger()
        one.generate("Hello again", temperature=0.7, **options).complete()


def main() -> None:
    """Run and print."""
    model, num_cycles = sys.argv[1], int(sys.argv[2])
    resident = []
    for turn in range(num_cycles):
        cycle(model, turn)
        resident.append(rss_bytes())
    print(json.dumps({"resident_bytes": resident}))


if __name__ == "__main__":
    main()
