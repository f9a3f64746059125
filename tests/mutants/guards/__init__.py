"""The guards of the code, one list for each part of it."""
