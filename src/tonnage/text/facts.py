"""What a tokenizer will hold, counted in the files without building it."""

import os
from collections.abc import Mapping

from tonnage._native import JsonFile
from tonnage.core.errors import TokenizerError
from tonnage.core.footprint import TextFacts

_PREFIX = "tokenizer.ggml."
_CHUNK_BYTES = 1 << 20
# A member of the vocabulary is at least "":0, beside its text.
_MEMBER_BYTES = 5


def facts_of_gguf(metadata: Mapping[str, object]) -> TextFacts | None:
    """Return the facts of a GGUF's tokenizer, None when its metadata have none."""
    from tonnage.text.gguf_source import TEMPLATE_KEYS, MetadataArray

    tokens = metadata.get(_PREFIX + "tokens")
    merges = metadata.get(_PREFIX + "merges")
    if not isinstance(tokens, MetadataArray):
        return None
    scored = metadata.get(_PREFIX + "model") == "llama"
    return TextFacts(
        num_tokens=tokens.count,
        num_merges=merges.count if isinstance(merges, MetadataArray) and not scored else 0,
        text_bytes=max(0, len(tokens.buffer()) - 8 * tokens.count),
        scored=scored,
        has_template=any(isinstance(metadata.get(key), str) for key in TEMPLATE_KEYS),
    )


def facts_of_folder(folder: str | os.PathLike[str]) -> TextFacts | None:
    """Return the facts of a Hugging Face folder's tokenizer, None when it has none that is valid.

    The strings of tokenizer.json, or vocab.json, are counted and not read: two quotes make one.
    """
    from tonnage.text.folder_templates import folder_templates

    path = os.path.join(folder, "tokenizer.json")
    if not os.path.isfile(path):
        return _facts_of_bpe_files(os.fspath(folder))
    try:
        file = JsonFile(path)
        model = file.members(file.members(0)["model"][0])
        vocab = model["vocab"]
        is_bpe = "type" not in model or file.value(*model["type"]) == b'"BPE"'
        merges = model["merges"] if is_bpe else (0, 0)
        has_template = bool(folder_templates(os.fspath(folder)))
    except (KeyError, TokenizerError):
        return None
    with open(path, "rb") as text:
        num_tokens = _num_strings(text.fileno(), vocab)
        num_strings = _num_strings(text.fileno(), merges)
        text.seek(merges[0])
        pairs = text.read(64)[1:].lstrip().startswith(b"[")
    return TextFacts(
        num_tokens=num_tokens,
        num_merges=num_strings // 2 if pairs else num_strings,
        text_bytes=max(0, vocab[1] - vocab[0] - _MEMBER_BYTES * num_tokens),
        growing=True,
        has_template=has_template,
    )


def _facts_of_bpe_files(folder: str) -> TextFacts | None:
    from tonnage.text.bpe_files import MERGES, VOCABULARY
    from tonnage.text.folder_templates import folder_templates

    paths = [os.path.join(folder, name) for name in (VOCABULARY, MERGES)]
    if not all(map(os.path.isfile, paths)):
        return None
    with open(paths[0], "rb") as vocabulary, open(paths[1], "rb") as merges:
        size = os.fstat(vocabulary.fileno()).st_size
        num_tokens = _num_strings(vocabulary.fileno(), (0, size))
        chunks = iter(lambda: merges.read(_CHUNK_BYTES), b"")
        num_lines = sum(chunk.count(b"\n") for chunk in chunks)
    try:
        has_template = bool(folder_templates(folder))
    except TokenizerError:
        return None
    return TextFacts(
        num_tokens=num_tokens,
        num_merges=num_lines + 1,
        text_bytes=max(0, size - _MEMBER_BYTES * num_tokens),
        growing=True,
        has_template=has_template,
    )


def _num_strings(fd: int, span: tuple[int, int]) -> int:
    """Return how many strings stand in bytes [begin, end) of valid JSON."""
    begin, end = span
    quotes, rest = 0, b""
    for offset in range(begin, end, _CHUNK_BYTES):
        chunk = rest + os.pread(fd, min(_CHUNK_BYTES, end - offset), offset)
        # A backslash at the end may escape what comes next.
        whole = chunk.replace(b"\\\\", b"")
        rest = b"\\" if whole.endswith(b"\\") else b""
        quotes += whole.count(b'"') - whole.count(b'\\"')
    return quotes // 2
