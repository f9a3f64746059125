"""Repositories of the emulated Hub: routes, schemas and store."""
