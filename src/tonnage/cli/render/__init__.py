"""Tables, charts and sentences that commands print."""
