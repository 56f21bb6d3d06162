"""What a server reports of itself: log, metrics, traces, the live ledger."""
