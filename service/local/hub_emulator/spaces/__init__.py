"""Spaces of the emulated Hub: routes with the proxy, and the Gradio app behind all Spaces."""
