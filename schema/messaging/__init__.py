"""Redis: wake-ups of workers through arq, and change notifications by pub/sub."""
