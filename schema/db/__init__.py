"""The database: connections, transactions, table base, revisions, storable values."""
