"""Real models through the reference transformer: do they say what they were taught?"""

from functools import lru_cache

import pytest

from oracles.transformer import hidden_states, logits
from support.containers import read_gguf, weights_of
from support.described import described
from support.layers import attention_of, mlp_of
from support.models import real_model
from tonnage.core.model_spec import ModelSpec
from tonnage.models.registry import spec_from_gguf

pytestmark = pytest.mark.slow
FRANCE = "The capital of France is"
FIBONACCI = "def fibonacci(n):\n    if n"


@lru_cache
def opened(name: str) -> tuple[dict, ModelSpec]:
    metadata, catalog = read_gguf(real_model(name))
    return metadata, spec_from_gguf(metadata, catalog)


class LongestMatch:
    """A tokenizer good enough for a few English words: always the longest token that fits."""

    def __init__(self, metadata: dict) -> None:
        self.tokens = metadata["tokenizer.ggml.tokens"]
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        is_bpe = metadata["tokenizer.ggml.model"] == "gpt2"
        self.marks = {" ": "Ġ", "\n": "Ċ"} if is_bpe else {" ": "▁"}
        adds_bos = metadata.get("tokenizer.ggml.add_bos_token", not is_bpe)
        self.start = [metadata["tokenizer.ggml.bos_token_id"]] if adds_bos else []

    def encode(self, text: str) -> list[int]:
        for plain, mark in self.marks.items():
            text = text.replace(plain, mark)
        out = list(self.start)
        while text:
            size = next(n for n in range(min(len(text), 16), 0, -1) if text[:n] in self.ids)
            out.append(self.ids[text[:size]])
            text = text[size:]
        return out

    def decode(self, token_id: int) -> str:
        text = self.tokens[token_id]
        for plain, mark in self.marks.items():
            text = text.replace(mark, plain)
        return text


@pytest.mark.parametrize(
    ("name", "prompt", "continuation"),
    [
        ("smollm2-135m", FRANCE, " Paris"),
        ("smollm2-135m", "One, two, three, four,", " five"),
        ("gemma3-270m", FIBONACCI, " =="),
        ("gemma3-270m", "One, two, three, four,", " five"),
        ("qwen2.5-coder-0.5b", FRANCE, " Paris"),
        ("qwen2.5-coder-1.5b", FRANCE, " Paris"),
    ],
)
def test_the_likeliest_continuation(name: str, prompt: str, continuation: str) -> None:
    metadata, spec = opened(name)
    tokenizer = LongestMatch(metadata)
    tensor = weights_of(spec, num_kept=1)
    model = described(spec)
    last = hidden_states(model, tensor, tokenizer.encode(prompt))[-1][-1:]
    assert tokenizer.decode(int(logits(model, tensor, last).argmax())) == continuation


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        # layers, d_model, heads, KV heads, head size, hidden, vocabulary, context, tied head
        ("smollm2-135m", (30, 576, 9, 3, 64, 1536, 49152, 8192, True)),
        ("gemma3-270m", (18, 640, 4, 1, 256, 2048, 262144, 32768, True)),
        ("qwen2.5-coder-0.5b", (24, 896, 14, 2, 64, 4864, 151936, 32768, False)),
        ("qwen2.5-coder-1.5b", (28, 1536, 12, 2, 128, 8960, 151936, 32768, False)),
    ],
)
def test_the_numbers_of_real_models(name: str, shape: tuple[int | bool, ...]) -> None:
    spec = opened(name)[1]
    attention, mlp = attention_of(spec.layers[0]), mlp_of(spec.layers[0])
    heads = (attention.num_heads, attention.num_kv_heads, attention.k_dim)
    sizes = (mlp.hidden, spec.vocab_size, spec.context_length, spec.tied_head)
    assert (len(spec.layers), spec.d_model, *heads, *sizes) == shape
    if name == "gemma3-270m":
        windows = [attention_of(layer).window for layer in spec.layers]
        assert windows == ([512] * 5 + [0]) * 3
