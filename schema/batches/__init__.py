"""The items of a batch: tables, writes and reads."""
