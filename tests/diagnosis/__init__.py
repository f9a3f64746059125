"""Failures as Hugging Face and programs tell of them, and what is made of each."""
