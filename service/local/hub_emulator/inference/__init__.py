"""Inference Providers of the emulated Hub: chat, other tasks, and each provider's formats."""
