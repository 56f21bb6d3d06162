"""What the scheduler keeps within."""

from tonnage.core.record import record

DEFAULT_STALL_NS = 200_000_000
# Takes 5 ms where the files are in the page cache, 80 from a disk of 100 MB/s.
DEFAULT_LOAD_BYTES = 8 << 20


@record
class SchedulerLimits:
    """What a step and the queue may hold.

    max_batch_tokens: rows of a step, of all requests together. max_stall_ns: the longest that a
    running request waits for its next token beside the prefill of others. load_bytes: of pages
    that the store gives between two steps while other requests decode.
    """

    max_running: int
    max_batch_tokens: int
    max_logit_rows: int
    context_tokens: int
    max_waiting: int = 1024
    max_stall_ns: int = DEFAULT_STALL_NS
    load_bytes: int = DEFAULT_LOAD_BYTES
