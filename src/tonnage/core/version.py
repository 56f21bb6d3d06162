"""The version of this program; pyproject.toml states the same."""

VERSION = "0.1.0"
