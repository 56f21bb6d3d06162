"""Print what llama.cpp says comes after some tokens: log probabilities by token id, as JSON.

Run: python tests/support/llamacpp_logprobs.py FILE.gguf '[1, 2, 3]'
A process of its own, as llama.cpp aborts on what it does not take. Needs xllamacpp.
"""

import json
import sys

import xllamacpp

# One that is text by itself is sampled, or the answer would have no probabilities.
SAMPLED = 40


def main(path: str, tokens: list[int]) -> None:
    """Print one line that begins with RESULT."""
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx, params.n_parallel, params.port = 256, 1, 0
    params.n_gpu_layers, params.warmup = 0, False
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)
    answer = server.handle_completions({
        "prompt": tokens, "n_predict": 1, "n_probs": 10**4, "logit_bias": [[SAMPLED, 1e4]],
        "ignore_eos": True,
    })  # fmt: skip
    answer = json.loads(answer) if isinstance(answer, str) else answer
    found = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    print("RESULT", json.dumps({one["id"]: one["logprob"] for one in found}))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
