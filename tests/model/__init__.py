"""The protocol itself, apart from the code that keeps it: every play there is, searched through."""
