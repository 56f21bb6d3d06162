"""Where models come from and what is kept of them: catalog, hub, packages, cache, audits."""
