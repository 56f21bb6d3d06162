"""Files of requests, completed many at once."""
