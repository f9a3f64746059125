"""Transactions that meet at a lock: they queue for it one after another, and go on together."""

from collections.abc import Awaitable, Callable
from functools import partial
from operator import le

import anyio

from schema.db.database import Database, Transaction
from tests.support.polling import SHORT_INTERVAL, eventually

_COUNT_WAITING = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock'
"""

Step = Callable[[Transaction], Awaitable[object]]


async def run_in_turn_at_lock(database: Database, lock: str, *steps: Step) -> None:
    """Run each step in a transaction of its own, in the order in which they came to wait.

    Args:
        lock: a statement; what it locks is released when all steps wait for something.

    Raises:
        ExceptionGroup: one of them failed, such as by a deadlock.
    """

    async def run(step: Step) -> None:
        async with database.transaction() as tx:
            await tx.execute("SET LOCAL lock_timeout = '20s'")  # longer than a busy machine needs
            await step(tx)

    async with anyio.create_task_group() as tasks, database.transaction() as gate:
        await gate.execute(lock)
        for count, step in enumerate(steps, start=1):
            tasks.start_soon(run, step)
            await eventually(
                partial(count_waiting, database), partial(le, count), interval=SHORT_INTERVAL
            )


async def count_waiting(database: Database) -> int:
    """Count the transactions of a database that wait for another one."""
    # In a transaction of its own each time, because Postgres shows one the same picture twice.
    async with database.transaction() as tx:
        waiting: int = await tx.fetchval(_COUNT_WAITING)
    return waiting
