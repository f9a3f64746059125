"""Jobs of every kind on the whole stack."""
