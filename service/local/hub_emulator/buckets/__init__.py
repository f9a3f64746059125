"""Buckets of the emulated Hub: routes, schemas, store, and the Xet protocol for content."""
