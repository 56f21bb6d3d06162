"""What this host really has: cores, caches, limits, bandwidth."""
