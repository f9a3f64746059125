"""What uv and `hf jobs uv run` read of a script, taken over into the arguments of a job."""
