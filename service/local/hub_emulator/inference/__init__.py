"""Inference Providers of the emulated Hub: fake models, chat, and each provider's formats."""
