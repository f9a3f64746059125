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
from workers.hub.client import Hub

_LAST_WORD: Final = 2.0
"""Seconds in which a step that is cut off is handed back."""


class Bell:
    """Wakes one loop; rings that come together are answered together."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake the loop, or make it go round once more."""
        self._event.set()

    async def rung(self) -> None:
        """Wait to be woken."""
        await self._event.wait()
        self._event.clear()


@dataclass(frozen=True, slots=True)
class Bells:
    """One for each loop that takes up due rows."""

    claim: Bell = field(default_factory=Bell)
    attend: Bell = field(default_factory=Bell)
    observe: Bell = field(default_factory=Bell)
    release: Bell = field(default_factory=Bell)
    fire: Bell = field(default_factory=Bell)


@dataclass(frozen=True, slots=True)
class Worker:
    """One process that carries jobs."""

    name: str
    settings: Settings
    database: Database
    vault: Vault
    hub: Hub
    executors: Mapping[str, Executor]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is told to stop."""
    bells: Bells = field(default_factory=Bells)

    @asynccontextmanager
    async def last_word(self) -> AsyncGenerator[Transaction]:
        """Yield a transaction to a step that is being cut off; briefly, and only if there is one.

        What cannot be written now is found out when the lease of the step lapses.
        """
        with suppress(Unavailable), anyio.move_on_after(_LAST_WORD, shield=True):
            async with self.database.transaction() as tx:
                yield tx
