"""Where drafts come from: guesses of how a sequence goes on; pure."""
