"""Inputs of a specification: files, URLs, `hf://` paths, media types, base64."""
