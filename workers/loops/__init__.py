"""The worker's loops; each takes due rows from Postgres under a lease."""
