"""How fast a loaded model is, beside what the machine can do."""
