"""Client of authorization servers: their metadata, their token endpoint, and refreshed accounts."""
