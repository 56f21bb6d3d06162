"""Measuring the constants of the forecast on this machine, through the kernels that will run."""
