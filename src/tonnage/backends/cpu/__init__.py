"""The CPU: an arena, weights streamed into it, and one native call per step."""
