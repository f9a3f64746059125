"""Authentication of callers: the Hub checks a token, and its answer is cached for a minute."""
