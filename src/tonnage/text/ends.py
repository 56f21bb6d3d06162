"""Tokens that end an answer though a model's files may not name them, by their texts.

Sources: special_eog_ids of llama.cpp's vocabulary (src/llama-vocab.cpp, read in November 2026), and
the model cards and templates of the families that are named here.
"""

from collections.abc import Container

# A turn or a text is over.
_TURN_ENDS = (
    "<|im_end|>",  # ChatML: Qwen, SmolLM, Yi, OLMo 2 and others
    "<|endoftext|>",  # GPT-2's vocabulary, Qwen's base models, Phi, StarCoder
    "</s>",  # Llama 2, Mistral
    "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>",  # Llama 3, Granite
    "<|end|>",  # Phi 3 and 4
    "<|return|>", "<|call|>",  # gpt-oss
    "<|calls|>", "<|flush|>",  # Solar Open
    "<end_of_turn>", "<eos>", "<turn|>", "<|tool_response>",  # Gemma 1 to 4
    "<EOT>", "_<EOT>",  # CodeLlama's fill-in-the-middle
    "[EOT]", "[EOS]",  # Kimi K2
    "<|eot|>",  # Llama 4; the one that is not on the list of llama.cpp
    "<end_of_utterance>",  # SmolVLM
    "<｜end▁of▁sentence｜>",  # DeepSeek
    "[e~[",  # MiniMax
)  # fmt: skip
# What was to be filled in is over: the next file, repository or padding begins.
_FILL_IN_ENDS = (
    "<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]",
    "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>",
    "<|file_sep|>",
)  # fmt: skip
END_TEXTS = (*_TURN_ENDS, *_FILL_IN_ENDS)
# Where all texts of one of these sets are tokens, too, the text is no end.
_NO_END_BESIDE = {
    # Harmony ends a message with it, and an answer has several.
    "<|end|>": ({"<|return|>", "<|call|>"}, {"<|calls|>", "<|flush|>"}),
    # A tag of HTML (text struck through) in Gemma's vocabularies.
    "</s>": ({"<u>", "</u>"}, {"<|tool_response>"}),
}
# All texts that decide which are ends.
ENDS_AND_NEIGHBOURS = tuple(
    {*END_TEXTS, *(one for sets in _NO_END_BESIDE.values() for texts in sets for one in texts)}
)


def ends_among(texts: Container[str]) -> list[str]:
    """Return the well-known ends among the texts of a vocabulary's special tokens."""
    return [
        text
        for text in END_TEXTS
        if text in texts
        and not any(all(one in texts for one in beside) for beside in _NO_END_BESIDE.get(text, ()))
    ]
