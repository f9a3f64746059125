"""Tests of what uv reads of a script."""
