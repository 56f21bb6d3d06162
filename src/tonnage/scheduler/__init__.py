"""Which request gets which pages and whose tokens make up the next step: integers alone."""
