"""Inputs of a specification: files, URLs, `hf://` URIs, media types, base64."""
