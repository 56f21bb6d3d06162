"""How much a chat template may make, and how long it may run."""

MAX_OUTPUT_CHARS = 1 << 24
MAX_DEPTH = 64  # of values in values
# Time of the processor for a conversation, and for each of its messages.
TIME_LIMIT_S = 2.0
MESSAGE_TIME_S = 5e-4
