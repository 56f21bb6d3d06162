"""Guesses of how a sequence goes on, and how many of them pay; pure."""
