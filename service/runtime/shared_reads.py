"""Reads that several requests of this process share, because they want the same at the same time.

    change ──▶ 25 waits of one job ──▶ one transaction ──▶ 25 answers

A read is shared by those who come before it begins: until its transaction is open, and so has seen
nothing. Whoever comes later gets a read of their own, or shares the next one. So nobody is answered
with what was true before they asked. Subject and key say for whom and of what it is: all that the
read depends on.
"""

from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import anyio

from schema.db.database import Transaction

_ValueT = TypeVar("_ValueT")


@dataclass(slots=True, eq=False)
class _Read(Generic[_ValueT]):
    """A read that has not begun, and then its outcome."""

    is_over: anyio.Event = field(default_factory=anyio.Event)
    values: list[_ValueT] = field(default_factory=list[_ValueT])
    """The one that was read, if it was."""
    error: Exception | None = None


class SharedReads:
    """The reads that have not begun yet, by their keys."""

    def __init__(self) -> None:
        self._pending: dict[Hashable, _Read[Any]] = {}

    async def read(
        self,
        subject_id: str,
        key: Hashable,
        open_transaction: Callable[[], AbstractAsyncContextManager[Transaction]],
        read: Callable[[Transaction], Awaitable[_ValueT]],
    ) -> _ValueT:
        """Read something, together with all who ask for the same before it begins.

        Args:
            subject_id: who reads; nothing is shared between two of them.
            key: of what is read. Whoever has the same key gets the same value, and changes nothing
                in it.
            open_transaction: which sees the rows of the subject.
            read: reads in it.

        Raises:
            Exception: what `read` or the transaction raised, for everybody who shared it.
        """
        shared_key = (subject_id, key)
        while True:
            pending = cast("_Read[_ValueT] | None", self._pending.get(shared_key))
            if pending is None:
                return await self._lead(shared_key, open_transaction, read)
            await pending.is_over.wait()
            if pending.error is not None:
                raise pending.error
            if pending.values:
                return pending.values[0]
            # Whoever read for all was cancelled before they had an answer.

    async def _lead(
        self,
        shared_key: Hashable,
        open_transaction: Callable[[], AbstractAsyncContextManager[Transaction]],
        read: Callable[[Transaction], Awaitable[_ValueT]],
    ) -> _ValueT:
        pending = self._pending[shared_key] = _Read[_ValueT]()
        try:
            await anyio.lowlevel.checkpoint()  # those whom the same change has woken come first
            async with open_transaction() as tx:
                self._begin(shared_key, pending)
                value = await read(tx)
            pending.values.append(value)
        except Exception as error:
            pending.error = error
            raise
        finally:
            self._begin(shared_key, pending)
            pending.is_over.set()
        return value

    def _begin(self, shared_key: Hashable, read: _Read[Any]) -> None:
        """Let nobody else share a read."""
        if self._pending.get(shared_key) is read:
            del self._pending[shared_key]
