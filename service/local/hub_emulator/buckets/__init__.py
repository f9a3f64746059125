"""Buckets of the emulated Hub: routes, schemas, files, and the Xet upload protocol."""
