"""What workers store of an attempt: its log, redacted, and its output files."""
