"""The request that speeds are compared by."""

PROMPT_TOKENS = 512
COMPLETION_TOKENS = 128
