"""The choice under a budget: constraints, candidates, and what would fit instead."""
