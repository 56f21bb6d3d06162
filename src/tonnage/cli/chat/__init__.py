"""A conversation on a terminal: what is typed, what was said, and the words that begin with a /."""
