"""Which settings of a config.json are read, which change no forward pass, and which must be off.

Sources: the attributes of PreTrainedConfig and GenerationConfig of transformers 4 and 5, and what
trainers and converters leave in people's files. What stands in none of these lists may matter, and
is refused.
"""

from collections.abc import Mapping

READ = frozenset({
    "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings",
    "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters", "tie_word_embeddings",
    "partial_rotary_factor", "original_max_position_embeddings", "architectures",
})  # fmt: skip
SAVING = frozenset({
    "torch_dtype", "dtype", "transformers_version", "_name_or_path", "name_or_path", "_commit_hash",
    "model_name", "base_model_name_or_path", "auto_map", "custom_pipelines", "torchscript",
    "use_bfloat16", "unsloth_fixed", "unsloth_version", "transformers.js_config",
    "mergekit_version", "converted_from", "original_config", "license",
})  # fmt: skip
TRAINING = frozenset({
    "initializer_range", "initializer_factor", "attention_dropout", "attention_probs_dropout_prob",
    "hidden_dropout", "hidden_dropout_prob", "resid_pdrop", "embd_pdrop", "attn_pdrop",
    "residual_dropout", "embedding_dropout",
    "resid_dropout", "embd_dropout", "mlp_dropout", "dropout", "activation_dropout", "layerdrop",
    "classifier_dropout", "classifier_dropout_prob", "gradient_checkpointing", "use_reentrant",
    "neftune_noise_alpha", "neftune_noise_alpha_multiplier", "label_smoothing", "loss_type",
    "router_aux_loss_coef", "z_loss_weight", "auxiliary_loss_weight", "seed", "fp16", "bf16",
    "tf_legacy_loss", "batch_size", "learning_rate", "freeze_base_model",
})  # fmt: skip
# How a forward pass is carried out, not what it gives.
EXECUTION = frozenset({
    "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal",
    "attn_implementation", "_experts_implementation_internal", "_flash_attn_2_enabled",
    "_use_flash_attention_2", "use_flash_attention", "use_flash_attention_2", "use_flash_attn",
    "use_cache", "cache_implementation", "cache_config", "use_memory_efficient_attention",
    "use_xformers", "use_sdpa", "unpad_inputs", "pretraining_tp", "chunk_size_feed_forward",
    "return_dict", "output_attentions", "_output_attentions", "output_hidden_states",
    "_post_init_done", "device_map", "low_cpu_mem_usage",
})  # fmt: skip
# Of special tokens and the tokenizer, which read them where they count.
TOKENS = frozenset({
    "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "cls_token_id",
    "mask_token_id", "decoder_start_token_id", "bos_token", "eos_token", "pad_token", "unk_token",
    "sep_token", "cls_token", "mask_token", "tokenizer_class", "tokenizer_model_max_length",
    "tokenizer_padding_side", "padding_side", "truncation_side", "model_max_length", "max_seq_len",
    "max_seq_length", "max_sequence_length", "seq_length", "n_ctx", "image_token_id",
    "video_token_id", "vision_start_token_id", "vision_end_token_id", "vision_token_id",
})  # fmt: skip
GENERATION = frozenset({
    "assistant_confidence_threshold", "assistant_early_exit", "assistant_ensemble_weight",
    "assistant_lookbehind", "bad_words_ids", "begin_suppress_tokens", "compile_config",
    "constraints", "continuous_batching_config", "disable_compile", "diversity_penalty",
    "do_sample", "dola_layers", "early_stopping", "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty", "epsilon_cutoff", "eta_cutoff",
    "exponential_decay_length_penalty", "force_words_ids", "forced_bos_token_id",
    "forced_eos_token_id", "guidance_scale", "is_assistant", "length_penalty", "low_memory",
    "max_cache_len", "max_length", "max_matching_ngram_size", "max_new_tokens", "max_time",
    "min_length", "min_new_tokens", "min_p", "no_repeat_ngram_size", "num_assistant_tokens",
    "num_assistant_tokens_schedule", "num_beam_groups", "num_beams", "num_return_sequences",
    "output_logits", "output_scores", "penalty_alpha", "prefill_chunk_size",
    "prompt_lookup_num_tokens", "remove_invalid_values", "renormalize_logits",
    "repetition_penalty", "return_dict_in_generate", "sequence_bias", "speculation_type",
    "stop_strings", "suppress_tokens", "target_lookbehind", "temperature", "token_healing",
    "top_h", "top_k", "top_p", "typical_p", "use_mtp", "watermarking_config",
    "_from_model_config", "generation_config", "task_specific_params", "prefix",
})  # fmt: skip
# Of other tasks than writing text, and what classes for many families carry along unread.
OTHER_TASKS = frozenset({
    "is_decoder", "is_llama_config", "id2label", "label2id", "num_labels", "problem_type",
    "finetuning_task", "summary_type", "summary_use_proj", "summary_activation",
    "summary_first_dropout", "summary_proj_to_labels", "cross_attention_hidden_size",
})  # fmt: skip
IGNORED = SAVING | TRAINING | EXECUTION | TOKENS | GENERATION | OTHER_TASKS
# Settings that matter, with the values that are implemented.
FIXED: Mapping[str, tuple[object, ...]] = {
    "mlp_bias": (False,),
    "rope_interleaved": (False,),
    "is_causal": (True,),
    "is_encoder_decoder": (False,),
    "bias": (False,),
    "qkv_bias": (False,),
    "qk_layernorm": (False,),
    "num_experts": (0,),
    "num_local_experts": (0,),
    "num_nextn_predict_layers": (0,),
}
# A setting that begins so and is false switches on nothing.
SWITCHES = (
    "use_", "add_", "has_", "is_", "with_", "do_", "enable_", "apply_", "output_", "tie_", "remove_"
)  # fmt: skip


def is_off(key: str, value: object) -> bool:
    """Return whether an unknown setting changes nothing: off, empty, or seen in the tensors."""
    if key == "quantization_config":
        return _says_f8(value)
    return (value is False and key.startswith(SWITCHES)) or value in ([], {}, "")


def _says_f8(config: object) -> bool:
    """Return whether all that is quantized is E4M3 with scales, which the tensors say too."""
    if not isinstance(config, dict):
        return False
    method = config.get("quant_method")
    if method == "compressed-tensors":
        return config.get("format") == "float-quantized"
    blocks = config.get("weight_block_size") in (None, [128, 128])
    return method in ("fp8", "fbgemm_fp8") and config.get("fmt", "e4m3") == "e4m3" and blocks
