"""The whole of it: real processes, driven through the public tools over HTTP."""
