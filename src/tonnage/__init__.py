"""Tonnage: memory-first inference of large language models."""

__version__ = "0.1.0"
