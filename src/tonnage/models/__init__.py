"""Model families as data, tensor-name maps, and where models come from."""
