"""The nouns: units, errors, block formats, model specs, machines, plans. Standard library only."""
