"""A typed wrapper of each native kernel, and beside it its oracle in float64."""
