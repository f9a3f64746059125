"""Jobs of the emulated Hub: routes, schemas, store, the processes that run them, their logs."""
