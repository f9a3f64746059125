"""A tenant database that counts its transactions."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from schema.db.database import Database, Transaction
from service.database import TenantDatabase


class CountingTenantDatabase(TenantDatabase):
    """Counts its transactions."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.transaction_count = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Transaction]:
        """Yield a transaction, and count it."""
        self.transaction_count += 1
        async with super().transaction() as tx:
            yield tx
