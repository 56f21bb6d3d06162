"""Measures llama.cpp answering many prompts at once, as `serving_tonnage.py` does Tonnage.

Run with an interpreter that has llama-cpp-python and numpy. All prompts go in as batches of as many
rows as the context takes; then every step computes one token of each sequence, greedily.
"""

import json
import time

import numpy as np

from llamacpp_session import Context, Model, api, system_info
from serving_load import Load, arguments, peak_rss_bytes

Row = tuple[int, int, int]


def answer(context: Context, load: Load, prompts: list[list[int]]) -> list[list[int]]:
    """Return the answers to `prompts`."""
    drawn = _read_prompts(context, prompts)
    answers = [[token] for token in drawn]
    for step in range(load.new_tokens - 1):
        position = load.prompt_tokens + step
        context.run([(answers[s][-1], position, s) for s in range(load.rows)])
        for sequence in range(load.rows):
            answers[sequence].append(_likeliest(context, sequence))
    return answers


def _read_prompts(context: Context, prompts: list[list[int]]) -> list[int]:
    """Return the first token of each answer; whole prompts are put together into batches."""
    most = api.llama_n_batch(context.handle)
    drawn: list[int] = []
    batch: list[Row] = []
    ends: list[int] = []
    for sequence, prompt in enumerate(prompts):
        batch += [(token, i, sequence) for i, token in enumerate(prompt)]
        ends.append(len(batch) - 1)
        if len(batch) + len(prompt) > most or sequence == len(prompts) - 1:
            context.run(batch)
            drawn += [_likeliest(context, end) for end in ends]
            batch, ends = [], []
    return drawn


def _likeliest(context: Context, row: int) -> int:
    return int(np.frombuffer(context.logits(row), np.float32).argmax())


def measure(model: Model, load: Load) -> list[float]:
    """Return the seconds of each repetition, after one that does not count."""
    seconds = []
    with Context(
        model,
        threads=load.threads,
        tokens_per_sequence=load.tokens_per_sequence,
        num_sequences=load.rows,
    ) as context:
        for repetition in range(load.repetitions + 1):
            prompts = load.prompts(model.vocab_size, repetition)
            context.clear()
            begin = time.perf_counter()
            answers = answer(context, load, prompts)
            seconds.append(time.perf_counter() - begin)
            load.check([len(tokens) for tokens in answers])
    return seconds[1:]


def main() -> None:
    """Measure and print."""
    path, load = arguments(__doc__)
    model = Model(path)
    report = {
        "build": f"llama-cpp-python {api.__version__} ({system_info()})",
        **load.report(measure(model, load)),
        "peak_rss_bytes": peak_rss_bytes(),
    }
    model.close()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
