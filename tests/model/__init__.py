"""A model of the launch protocol, apart from the code, and a search through all it allows."""
