"""Jobs and their remote runs: tables, state transitions, work queues, reads."""
