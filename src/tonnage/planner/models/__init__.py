"""Several models under one budget."""
