"""Who vouches for a caller, if it is not the Hub."""
