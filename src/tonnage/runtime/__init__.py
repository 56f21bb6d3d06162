"""The executor: one native call per step, and the sampler."""
