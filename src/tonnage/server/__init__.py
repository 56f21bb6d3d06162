"""The HTTP server: OpenAI's and Anthropic's interfaces, tenants, metrics and the live ledger."""
