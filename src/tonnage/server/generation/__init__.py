"""From a request's words to a completion's, whatever the interface."""
