"""Drafts from a request's own text change no token and no bit."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from system.test_drafts import Run, open_engine
from system.test_serving import SIZES
from tonnage.core.plan import KV_FORMATS
from tonnage.core.sampling import SamplingOptions
from tonnage.speculation.suffix import SuffixIndex


class OfOneRequest:
    """A source for one request that runs alone."""

    def __init__(self) -> None:
        self._index = SuffixIndex(1 << 12)
        self.num_proposed = 0

    def propose(self, tokens: Sequence[int], most: int) -> Sequence[int]:
        found = self._index.find(tokens, most).tokens
        self.num_proposed += len(found)
        return found


class FourTokens:
    """A constraint under which some three tokens come again: there are 64 of them."""

    def mask(self) -> bytes:
        return b"\x1e" + bytes(1023)

    def accept(self, token_id: int) -> None:
        assert 1 <= token_id <= 4


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kv_format", KV_FORMATS)
def test_a_text_that_repeats_itself_gets_the_same_bits(
    tmp_path: Path, kv_format: str, threads: int
) -> None:
    name = next(iter(SIZES))
    config = tiny_config(name, max_position_embeddings=1 << 12, **SIZES[name])
    model = write_gguf(tmp_path / "tiny.gguf", tiny_model(config, seed=1), matrices("Q8_0"))
    options = SamplingOptions(
        max_tokens=150, ignore_eos=True, temperature=0, logprobs=2, constraint=FourTokens
    )
    made = [([1, 2, 3, 4, 5] * 4, options)]
    with open_engine(model, threads, kv_format, concurrency=1) as engine:
        plain = Run(engine, made)
    with open_engine(model, threads, kv_format, concurrency=1) as engine:
        source = OfOneRequest()
        engine._serving.loop.draft_source = source
        drafted = Run(engine, made)
    assert drafted.results == plain.results
    assert drafted.logits == plain.logits
    assert source.num_proposed > 0
    assert drafted.num_steps <= plain.num_steps
