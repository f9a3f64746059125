"""What a connection is told before its first call: instructions and help."""
