"""Failures as Hugging Face and programs report them, and the diagnosis of each."""
