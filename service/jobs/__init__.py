"""Actions on jobs that tools call: launch, read, wait, cancel, retry."""
