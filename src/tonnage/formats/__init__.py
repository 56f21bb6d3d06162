"""Containers (GGUF, safetensors) and the reference codec of every block format."""
