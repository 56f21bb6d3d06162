"""Which request gets which pages and which rows of the next step: integers in, integers out."""
