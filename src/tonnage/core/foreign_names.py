"""What options of other libraries are called here: for those who write them out of habit.

Names are those of llama-cpp-python 0.3, Ollama's API, transformers 5, vLLM 0.11 and OpenAI's API.
"""

from collections.abc import Set

from tonnage.core.nearest import did_you_mean

_OPENING = {
    "context": "n_ctx num_ctx ctx_size context_size context_length max_model_len max_seq_len "
    "max_seq_length max_position_embeddings",
    "max_batch_tokens": "n_batch n_ubatch num_batch batch_size max_num_batched_tokens",
    "threads": "n_threads n_threads_batch num_threads num_thread",
    "concurrency": "n_parallel n_seq_max max_num_seqs num_parallel",
    "kv_format": "kv_cache_dtype cache_type_k cache_type_v type_k type_v",
    "precision": "quantization quantization_config torch_dtype dtype load_in_4bit load_in_8bit",
    "offline": "local_files_only",
    "prefix_cache": "cache enable_prefix_caching prompt_cache",
    "max_logit_rows": "logits_all",
    "memory": "max_memory memory_limit",
    "model": "model_path model_id model_name pretrained_model_name_or_path",
}
_SAMPLING = {
    "max_tokens": "max_new_tokens max_completion_tokens max_length n_predict num_predict",
    "temperature": "temp",
    "top_k": "topk",
    "top_p": "topp",
    "repetition_penalty": "repeat_penalty penalty_repeat",
    "presence_penalty": "present_penalty penalty_present",
    "frequency_penalty": "freq_penalty penalty_freq",
    "seed": "random_seed manual_seed",
    "stop": "stop_sequences stop_strings stop_words stopping_criteria stop_token_ids",
    "logprobs": "top_logprobs n_probs",
    "logit_bias": "bad_words bad_words_ids sequence_bias",
    "constraint": "logits_processor logits_processors guided_decoding_backend",
}
_SENTENCES = {
    "Tonnage computes on the CPU": "n_gpu_layers num_gpu gpu_layers device device_map main_gpu "
    "tensor_split tensor_parallel_size gpu_memory_utilization",
    "weights are always packed into memory that the plan counts": "use_mmap use_mlock "
    "low_cpu_mem_usage",
    "temperature=0 takes the likeliest token, any other samples": "do_sample greedy",
    "iterate what generate returns for text as it comes, or print it for all of it": "stream "
    "streaming streamer",
    "generate_batch completes several prompts at once": "n num_return_sequences best_of",
    "prompt_logprobs is about the prompt's tokens": "echo",
    "`chat` takes it": "tools tool_choice functions",
    "the `tonnage` logger of `logging` takes its level": "verbose log_level",
}


def _by_name(table: dict[str, str]) -> dict[str, str]:
    return {other: ours for ours, others in table.items() for other in (*others.split(), ours)}


OPENING, SAMPLING = _by_name(_OPENING), _by_name(_SAMPLING)
REASONS = {name: reason for reason, names in _SENTENCES.items() for name in names.split()}


def hint(name: str, known: Set[str]) -> str:
    """Return the end of a sentence about an option that `known` lacks."""
    if name in REASONS:
        return f"; {REASONS[name]}."
    for table, where in ((OPENING, "`Engine.open`"), (SAMPLING, "`generate`")):
        ours = table.get(name)
        if ours in known:
            return f"; here it is called {ours}."
        if ours is not None:
            return f"; {where} takes it, as {ours}."
    return did_you_mean(name, known)
