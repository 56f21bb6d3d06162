"""Plans carried out in float64 numpy: slow, exact but for rounding, for tests."""
