"""Sizes become offsets: weights, pages and scratch in one arena, layers as fused steps."""
