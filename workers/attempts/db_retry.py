"""Transactions that are kept at while the database is away: a fact is not dropped for that."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import structlog

from schema.common.errors import Unavailable
from schema.db.database import Database, Transaction
from workers.timing import backoff

T = TypeVar("T")

log = structlog.stdlib.get_logger()


async def retry_transaction(database: Database, write: Callable[[Transaction], Awaitable[T]]) -> T:
    """Make a transaction, however long that takes; what it may still write its fence says."""
    tries = 0
    while True:
        try:
            async with database.transaction() as tx:
                return await write(tx)
        except Unavailable:
            log.warning("database.away", tries=tries)
            await anyio.sleep(min(backoff(tries).total_seconds(), 5))
            tries += 1
