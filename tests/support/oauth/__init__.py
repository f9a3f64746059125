"""An authorization server for tests, and the claims it signs."""
