"""From a request's words to an answer's, whatever the interface."""
