"""What a process says of itself: its log lines, and its numbers."""
