"""How good a model still is: perplexity, and its divergence from a reference, measured."""

from tonnage.store.audits import cached_audits

__all__ = ["cached_audits"]
