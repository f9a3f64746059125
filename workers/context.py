"""What lives as long as a worker does, and what an executor is told about one attempt."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import anyio

from schema.accounts.vault import Vault
from schema.common.errors import Unavailable
from schema.db.database import Database, Transaction
from schema.settings import Settings
from workers.executor import Executor
from workers.hub.client import HubJobsClient

_SHUTDOWN_WRITE_SECONDS: Final = 2.0
"""Seconds in which a step that is cut off is handed back."""


class AutoResetEvent:
    """Wakes one loop; rings that come together are answered together."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake the loop, or make it go round once more."""
        self._event.set()

    async def wait(self) -> None:
        """Wait to be woken."""
        await self._event.wait()
        self._event.clear()


@dataclass(frozen=True, slots=True)
class LoopEvents:
    """One for each loop that takes up due rows."""

    claim: AutoResetEvent = field(default_factory=AutoResetEvent)
    reconcile: AutoResetEvent = field(default_factory=AutoResetEvent)
    poll: AutoResetEvent = field(default_factory=AutoResetEvent)
    release: AutoResetEvent = field(default_factory=AutoResetEvent)
    fire: AutoResetEvent = field(default_factory=AutoResetEvent)


@dataclass(frozen=True, slots=True)
class Worker:
    """One process that carries jobs."""

    name: str
    settings: Settings
    database: Database
    vault: Vault
    hub: HubJobsClient
    executors: Mapping[str, Executor]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is told to stop."""
    events: LoopEvents = field(default_factory=LoopEvents)

    @asynccontextmanager
    async def shutdown_transaction(self) -> AsyncGenerator[Transaction]:
        """Yield a transaction to a step that is being cut off; briefly, and only if there is one.

        What cannot be written now is found out when the lease of the step lapses.
        """
        with suppress(Unavailable), anyio.move_on_after(_SHUTDOWN_WRITE_SECONDS, shield=True):
            async with self.database.transaction() as tx:
                yield tx
