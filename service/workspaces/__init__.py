"""Actions on workspaces, and their views."""
