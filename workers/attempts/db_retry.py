"""Transactions that are repeated while the database is unavailable, so that no fact is lost."""

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
    """Run `write` in a transaction, until that has worked, however long it takes.

    By then another worker may have decided about the run; the state of the run, which every
    transition compares, says what may still be written.
    """
    tries = 0
    while True:
        try:
            async with database.transaction() as tx:
                return await write(tx)
        except Unavailable:
            log.warning("database.away", tries=tries)
            await anyio.sleep(min(backoff(tries).total_seconds(), 5))
            tries += 1
