"""Everyday tasks, done by an agent that knows of Holdfast only what its tools say."""
