"""How fast it is, and how evenly: commands, not tests."""
