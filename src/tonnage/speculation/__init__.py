"""Guesses how texts go on, and decides how many of the guesses are worth a row of a step."""
