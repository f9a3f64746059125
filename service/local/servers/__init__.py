"""The servers of the local stack, Postgres and Valkey, from their wheels."""
