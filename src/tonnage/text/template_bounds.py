"""How much a chat template may make."""

MAX_OUTPUT_CHARS = 1 << 24
