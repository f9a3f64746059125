"""Calls of Gradio Spaces: the client and the results."""
