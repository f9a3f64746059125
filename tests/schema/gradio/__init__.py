"""Tests of schema/gradio."""
