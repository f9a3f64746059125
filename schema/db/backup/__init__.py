"""Backups of the database: the encrypted file, what is written to it, and how it is loaded."""
