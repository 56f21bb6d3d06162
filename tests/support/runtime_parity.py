"""What the CPU computes beside the reference transformer that rounds where it rounds on purpose."""

import numpy as np

from oracles.rounding import allowed_share, rms, rounded_forward, scatter
from oracles.transformer import forward
from support.containers import weights_of
from support.described import coded_matrices, described
from support.driver import chunked_logits, open_runtime
from tonnage._native import best_isa
from tonnage.core.model_spec import ModelSpec
from tonnage.core.plan import KvFormat

NUM_TOKENS = 150
CHUNKS = (1, 40, 22, 3, 1, 48)


def assert_parity(
    spec: ModelSpec, tensor: object = None, kv_format: KvFormat = "f16",
    formats: tuple[tuple[str, str], ...] = (),
) -> None:  # fmt: skip
    """Assert that the runtime differs from the rounded reference by float32 arithmetic alone."""
    tokens = np.random.default_rng(5).integers(0, spec.vocab_size, NUM_TOKENS).tolist()
    runtime = open_runtime(spec, best_isa(), 2, kv_format=kv_format, formats=formats)
    held = {matrix.name: matrix.format for matrix in runtime.plan.matrices}
    tensor = tensor or weights_of(spec)
    ours = chunked_logits(runtime, tokens, CHUNKS)
    runtime.close()
    model, coded = described(spec), coded_matrices(spec, held)
    rounded = rounded_forward(model, tensor, coded, tokens, kv_format)
    exact = forward(model, tensor, tokens)
    has_codes = kv_format == "int8" or bool(coded)
    deliberate = rms(rounded - exact)
    allowed = allowed_share(model, NUM_TOKENS, has_codes)
    share = rms(ours - rounded) / deliberate
    assert share < allowed, f"{share:.3g} of the deliberate roundings, allowed are {allowed:.3g}"
    # Neither may the runtime lose more than those roundings cost.
    assert rms(ours - exact) < (1 + scatter(NUM_TOKENS)) * deliberate
