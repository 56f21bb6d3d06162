"""Which model answers, what waits for it, and for whom."""
