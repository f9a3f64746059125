"""HTTP clients of the Hub and of its Spaces."""
