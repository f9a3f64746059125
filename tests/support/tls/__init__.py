"""TLS for tests: certificates, and a server that ends TLS in front of one without it."""
