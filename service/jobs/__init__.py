"""Actions on jobs, apart from how a caller asks for them: launch, read, wait, cancel, retry."""
