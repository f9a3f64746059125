"""Subjects and their authority: credentials, the vault, row-level security, the audit log."""
