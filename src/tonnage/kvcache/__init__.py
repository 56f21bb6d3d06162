"""Pages of keys and values: pools, the prefix tree over them, and the tier on disk."""
