"""A long run of a whole deployment under load, while its parts are killed and replaced."""
