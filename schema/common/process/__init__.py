"""The life of a process: work in its background, and its end."""
