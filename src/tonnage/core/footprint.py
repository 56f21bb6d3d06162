"""What a process weighs beside its arena; docs/footprint.md has the measurements."""

from tonnage.core.record import record

MIB = 1 << 20
# Interpreter, libraries and their pages of files, kernels in use: 20.0 measured; and what no item
# explains, 0.3 to 1.4: a plan's objects, prompts, gaps of the allocator. A process of the command
# line has to stay 1 MiB below it before it opens a model, or it plans more than `tonnage plan`.
INTERPRETER_BYTES = 24 * MIB
# Of those, what is read from files only after a model was opened: kernels.
LATE_LIBRARY_BYTES = 1 * MIB
# Pages of the files that the template engine brings along: 0.7 measured.
TEMPLATE_LIBRARY_BYTES = 1 * MIB
# The template engine's own objects and one compiled template: 2.7 measured.
TEMPLATE_BYTES = 3584 << 10
# A vocabulary's own object, patterns, and 8 bytes per special token for up to 6,000 of them.
TOKENIZER_BYTES = 64 << 10
# The sampler's candidates: a logit and an id per token of the vocabulary.
SAMPLER_TOKEN_BYTES = 8
# The HTTP server: event loop, uvicorn, msgspec, our routes; and the first requests' caches.
SERVER_BYTES = 20 * MIB
# Structured output: the library, and its tables for each token of the vocabulary. What the process
# grew by at most while they were made: 28.8 MiB for 49,152 tokens, 73.7 for 151,936, 131.8 for
# 262,144; what stays: 19.5, 60.8, 114.6.
STRUCTURED_OUTPUT_BYTES = 6 * MIB
STRUCTURED_OUTPUT_TOKEN_BYTES = 520
# Prefixes on disk: OpenSSL for their checksums, and one slice of pages on its way.
STORE_BYTES = 5 * MIB
# OpenTelemetry's SDK and exporter, 11.0 measured, and spans that wait, 4.6 KiB each.
TRACES_BYTES = 20 * MIB
# What one connection may hold: 16 KiB read, as much of a header, 32 KiB written. Idle it takes 5.4
# KiB (10,000 of them).
CONNECTION_BYTES = 48 << 10
# By the longest body: 4 for bodies that are held, 4 for responses on their way to readers, 6 for
# responses that wait, and for one body at a time its objects and tokens: 17 to 46 measured, most
# for a single word of two million letters with a character beyond 16 bits.
BODY_FACTOR = 60
RESPONSES_FACTOR = 6
# Responses have so much however short bodies are: space for 64 that are short.
MIN_RESPONSES_BYTES = 512 << 10
# Many completions at once: what the allocator keeps for the thread that steps, the objects of each
# completion, and a number in two lists per token. Twelve clients of six sequences took 4.9 MiB.
REQUESTS_BYTES = 2560 << 10
REQUEST_BYTES = 400 << 10
REQUEST_TOKEN_BYTES = 64
# The part of a worker's stack, and of its allocator, that it touches.
THREAD_STACK_BYTES = 64 << 10


@record
class TextFacts:
    """What a model's headers say of its tokenizer.

    text_bytes: of all tokens as they are stored. scored: merged by a score per token, not by
    merges. growing: tokens may be added behind those that were counted. has_template: it comes with
    a chat template.
    """

    num_tokens: int
    num_merges: int
    text_bytes: int
    scored: bool = False
    growing: bool = False
    has_template: bool = False


def text_facts(vocab_size: int) -> TextFacts:
    """Return what is assumed of a model of `vocab_size` tokens that says nothing."""
    return TextFacts(vocab_size, vocab_size, 8 * vocab_size, growing=True, has_template=True)


def interpreter_bytes(resident_bytes: int, facts: TextFacts) -> int:
    """Return what to plan for a process that has `resident_bytes` before it opens a model.

    A process of the command line gets the same figure everywhere; one that has loaded more of its
    own pays for that.
    """
    process_bytes = max(INTERPRETER_BYTES, resident_bytes + LATE_LIBRARY_BYTES)
    return process_bytes + (TEMPLATE_LIBRARY_BYTES if facts.has_template else 0)


def template_bytes(facts: TextFacts) -> int:
    """Return what rendering a chat takes, nothing for a model without a template."""
    return TEMPLATE_BYTES if facts.has_template else 0


def tokenizer_bytes(facts: TextFacts) -> int:
    """Return what the tables of native/text/vocabulary.h hold, at most.

    Per token a start, a length and a kind; per token and merge one and a half slots of four bytes
    and eight more; three ids per merge. Arrays that grow may be twice as long as what they hold.
    """
    per_token = (4 + 2 + 1) * (2 if facts.growing else 1) + (4 if facts.scored else 0)
    tables = facts.num_tokens * per_token + 3 * 4 * facts.num_merges
    slots = sum(4 * (count + count // 2 + 8) for count in (facts.num_tokens, facts.num_merges))
    return TOKENIZER_BYTES + tables + slots + facts.text_bytes


def server_bytes(connections: int, body_bytes: int) -> int:
    """Return what serving takes for so many connections and bodies of at most `body_bytes`."""
    return SERVER_BYTES + connections * CONNECTION_BYTES + BODY_FACTOR * body_bytes


def responses_bytes(body_bytes: int) -> int:
    """Return what responses may hold that wait, of all requests; a part of `server_bytes`."""
    return max(MIN_RESPONSES_BYTES, RESPONSES_FACTOR * body_bytes)


def requests_bytes(concurrency: int, context_tokens: int) -> int:
    """Return what completions take beside pages and samplers, nothing for one at a time."""
    each = REQUEST_BYTES + REQUEST_TOKEN_BYTES * context_tokens
    return REQUESTS_BYTES + concurrency * each if concurrency > 1 else 0


def structured_output_bytes(vocab_size: int) -> int:
    """Return what structured output takes: the library and its tables of the vocabulary."""
    return STRUCTURED_OUTPUT_BYTES + STRUCTURED_OUTPUT_TOKEN_BYTES * vocab_size


def sampler_bytes(vocab_size: int) -> int:
    """Return the most that drawing from `vocab_size` logits takes.

    Its array grows by doubling, and the allocator keeps the shorter ones before it.
    """
    return 2 * SAMPLER_TOKEN_BYTES << (vocab_size - 1).bit_length()
