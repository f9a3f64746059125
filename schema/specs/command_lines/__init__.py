"""Command lines of `hf jobs` and uv that stand where a command or a script goes."""
