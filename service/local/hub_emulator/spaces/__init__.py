"""Spaces of the emulated Hub: routes, and the Gradio app that stands behind them."""
