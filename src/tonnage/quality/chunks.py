"""A text cut into chunks, and engines run over them, a few rows of logits at a time.

Scored as llama.cpp's `llama-perplexity` scores: the whole text is encoded once and cut into chunks
of 512 tokens; where the model puts a beginning token in front of a text, it takes the place of each
chunk's first token. Of every chunk the tokens 257 to 511 are predicted, each from all that stand
before it in the chunk.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tonnage.core.record import record
from tonnage.engine.engine import Engine, Span

if TYPE_CHECKING:
    from tonnage.quality.rows import Row
    from tonnage.text.tokenizer import Tokenizer

CONTEXT_TOKENS = 512
FIRST_SCORED = CONTEXT_TOKENS // 2
SCORED_TOKENS = CONTEXT_TOKENS - FIRST_SCORED - 1
# Rows whose logits an engine keeps at once: 64 of a vocabulary of 262k take 64 MiB.
LOGIT_ROWS = 64


@record
class ChunkScores:
    """One chunk, a value per scored token; all but `nlls` only against a reference.

    nlls, reference_nlls: negative log-likelihoods in nats. divergences: of Kullback and Leibler, in
    nats. agreements: whether both find the same token the likeliest. shared: of the reference's
    five likeliest tokens, the share that are among the model's.
    """

    nlls: list[float]
    reference_nlls: list[float]
    divergences: list[float]
    agreements: list[bool]
    shared: list[float]


def cut(tokenizer: "Tokenizer", text: str) -> list[list[int]]:
    """Return whole chunks of 512 token ids; what is left at the end is dropped."""
    tokens = tokenizer.encode(text, add_special=True, parse_special=False)
    opening = tokenizer.encode("", add_special=True, parse_special=False)[:1]
    chunks = []
    for begin in range(0, len(tokens) - CONTEXT_TOKENS + 1, CONTEXT_TOKENS):
        chunk = tokens[begin : begin + CONTEXT_TOKENS]
        chunks.append([*opening, *chunk[len(opening) :]])
    return chunks


def score(engine: Engine, tokens: list[int]) -> ChunkScores:
    """Return the negative log-likelihoods of one chunk. `engine` holds CONTEXT_TOKENS positions."""
    nlls = [
        row.negative_log_likelihood(follower)
        for row, follower in zip(_rows(engine, tokens), tokens[FIRST_SCORED + 1 :], strict=True)
    ]
    return ChunkScores(nlls, [], [], [], [])


def score_against(engine: Engine, reference: Engine, tokens: list[int]) -> ChunkScores:
    """Return the scores of one chunk against a reference of the same vocabulary."""
    scores = ChunkScores([], [], [], [], [])
    pairs = zip(_rows(engine, tokens), _rows(reference, tokens), strict=True)
    for (ours, theirs), follower in zip(pairs, tokens[FIRST_SCORED + 1 :], strict=True):
        scores.nlls.append(ours.negative_log_likelihood(follower))
        scores.reference_nlls.append(theirs.negative_log_likelihood(follower))
        scores.divergences.append(ours.divergence_from(theirs))
        scores.agreements.append(ours.top == theirs.top)
        scores.shared.append(len(ours.top5 & theirs.top5) / len(theirs.top5))
    return scores


def _rows(engine: Engine, tokens: list[int]) -> Iterator["Row"]:
    """Yield the rows of positions 256..510; each is read before the next step overwrites it."""
    from tonnage.quality.rows import Row

    plan, runtime = engine.plan, engine.runtime
    pages = [list(range(group.num_pages)) for group in plan.kv.groups]
    for begin in range(0, FIRST_SCORED, plan.max_rows):
        part = tokens[begin : min(begin + plan.max_rows, FIRST_SCORED)]
        runtime.step(part, [Span(pages, len(part), begin)], [])
    for begin in range(FIRST_SCORED, len(tokens) - 1, plan.max_logit_rows):
        part = tokens[begin : min(begin + plan.max_logit_rows, len(tokens) - 1)]
        runtime.step(part, [Span(pages, len(part), begin)], list(range(len(part))))
        for index in range(len(part)):
            yield Row.of(runtime.logits(index), engine.source.name)
