"""HTTP itself: connections, requests, errors, routes, the web page."""
