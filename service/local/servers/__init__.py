"""The local stack's servers, Postgres and Valkey, from their wheels."""
