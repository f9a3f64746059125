"""What a model can do that knows of Holdfast only what Holdfast tells it."""
