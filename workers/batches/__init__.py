"""The runner of a batch: many calls, a bounded number at a time, each stored as it ends."""
