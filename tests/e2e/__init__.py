"""End-to-end tests: real processes, driven through the public tools over HTTP."""
