"""Fewer bytes: what a text says of a model's columns, formats under a budget, packed files."""
