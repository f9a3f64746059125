"""Writes of attempts that run side by side, gathered into one transaction.

One write alone begins at once. Those that come while it is on its way to the disk wait for it, and
then go into the next transaction together: the busier the worker, the more of them share one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from contextvars import Context
from typing import Any, Final, TypeVar

from schema.common.errors import Unavailable
from schema.db.database import Database, Transaction

Item = TypeVar("Item")
Answer = TypeVar("Answer")
GroupWrite = Callable[[Transaction, list[Item]], Awaitable[list[Answer]]]
"""Writes some items, and returns the answer to each in their order."""
_Waiting = list[tuple[Any, "asyncio.Future[Any]"]]

_MAX_ITEMS: Final = 64
"""How many writes share a transaction at most."""


class GroupedWrites:
    """The writes of one worker that wait, by group."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, _Waiting] = {}
        self._writers: dict[Hashable, asyncio.Task[None]] = {}

    async def submit(
        self,
        database: Database,
        group: Hashable,
        write: "GroupWrite[Item, Answer]",
        item: Item,
    ) -> Answer:
        """Write an item in a transaction, perhaps with others of its group, and return its answer.

        A caller who is cancelled no longer waits; the item may be written all the same.

        Raises:
            Unavailable: the database did not take the transaction.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(group, []).append((item, answer))
        if group not in self._writers:
            # In no job's context: what is logged is about others too.
            self._writers[group] = asyncio.create_task(
                self._write_group(database, group, write), context=Context()
            )
        return await answer

    async def _write_group(
        self, database: Database, group: Hashable, write: "GroupWrite[Any, Any]"
    ) -> None:
        try:
            while waiting := self._waiting.get(group):
                self._waiting[group] = waiting[_MAX_ITEMS:]
                await _write_together(database, write, waiting[:_MAX_ITEMS])
        finally:
            del self._writers[group]
            for _, answer in self._waiting.pop(group, []):
                answer.cancel()


async def _write_together(
    database: Database, write: "GroupWrite[Any, Any]", waiting: _Waiting
) -> None:
    try:
        async with database.transaction() as tx:
            answers = await write(tx, [item for item, _ in waiting])
        for (_, future), answer in zip(waiting, answers, strict=True):
            if not future.done():
                future.set_result(answer)
    except Unavailable as error:
        _fail(waiting, error)
    except Exception as error:  # noqa: BLE001  # of one item; the others must come to the disk
        if len(waiting) == 1:
            _fail(waiting, error)
            return
        for each in waiting:
            await _write_together(database, write, [each])
    finally:
        for _, future in waiting:  # those of a writer that is cancelled
            if not future.done():
                future.cancel()


def _fail(waiting: _Waiting, error: Exception) -> None:
    for _, answer in waiting:
        if not answer.done():
            answer.set_exception(error)
