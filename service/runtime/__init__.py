"""State of the running service: context, watches, wait slots, caches, sealed tokens."""
