"""URLs of Postgres and Redis, as managed services print them."""
