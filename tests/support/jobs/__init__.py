"""Jobs, runs, batches and outputs in given states."""
