"""What both processes share: tables, state transitions, specifications, settings and errors."""
