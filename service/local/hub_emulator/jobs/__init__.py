"""Jobs of the emulated Hub: routes, schemas, the processes that run them, and their logs."""
