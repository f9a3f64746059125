"""What lives as long as the service does: context, watches, caches, sealed tokens."""
