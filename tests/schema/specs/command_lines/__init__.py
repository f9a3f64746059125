"""Tests of command lines of `hf jobs` and uv."""
