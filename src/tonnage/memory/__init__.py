"""The arena, the live ledger, and the streaming of weights into their planned place."""
