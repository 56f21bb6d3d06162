"""What a process weighs beside its arena; docs/footprint.md has the measurements."""

MIB = 1 << 20
# Interpreter, libraries and their pages of files, all commands and kernels in use: 22.5 measured.
INTERPRETER_BYTES = 24 * MIB
# Of those, what is read from files only after a model was opened: kernels, the template engine.
LATE_LIBRARY_BYTES = 4 * MIB
# The template engine's own objects and one compiled template: 3.5 measured.
TEMPLATE_BYTES = 4 * MIB
# Native vocabulary and merges: 26 to 38 bytes per token measured.
TOKENIZER_BYTES = 64 << 10
TOKENIZER_TOKEN_BYTES = 40
# The sampler's candidates: a logit and an id per token of the vocabulary.
SAMPLER_TOKEN_BYTES = 8
# The HTTP server: event loop, uvicorn, msgspec, our routes; and the first requests' caches.
SERVER_BYTES = 20 * MIB
# Binding answers to a form: the library, and its tables for each token of the vocabulary. Measured
# 28.8 MiB for 49,152 tokens, 73.7 for 151,936, 131.8 for 262,144.
FORMS_BYTES = 8 * MIB
FORMS_TOKEN_BYTES = 560
# Buffers of one connection, its parser and its tasks.
CONNECTION_BYTES = 48 << 10
# The part of a worker's stack, and of its allocator, that it touches.
THREAD_STACK_BYTES = 64 << 10


def interpreter_bytes(resident_bytes: int) -> int:
    """Return what to plan for a process that has `resident_bytes` before it opens a model.

    A process of the command line gets the same figure everywhere; one that has loaded more of its
    own pays for that.
    """
    return max(INTERPRETER_BYTES, resident_bytes + LATE_LIBRARY_BYTES)


def tokenizer_bytes(vocab_size: int) -> int:
    """Return what a native tokenizer of `vocab_size` tokens is expected to hold."""
    return TOKENIZER_BYTES + TOKENIZER_TOKEN_BYTES * vocab_size
