"""Files of requests, answered many at once."""
