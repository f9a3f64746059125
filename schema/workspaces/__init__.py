"""Workspaces: tables, writes and reads, and the defaults they give to launches."""
