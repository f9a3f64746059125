"""What lives as long as a worker does, and what an executor is told about one attempt."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol
from uuid import UUID

import anyio

from schema.accounts.vault import Secret, Vault
from schema.common.errors import Unavailable
from schema.db.database import Database, Transaction
from schema.jobs.progress import Progress
from schema.settings import Settings
from workers.hub import Hub
from workers.outcome import Outcome

_LAST_WORD: Final = 2.0
"""Seconds in which a step that is cut off is handed back."""


Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Means:
    """What executors are made of; each takes what it needs."""

    hub: Hub
    database: Database
    settings: Settings
    vault: Vault


@dataclass(frozen=True, slots=True)
class Order:
    """One attempt to be carried out, with the authority of the subject who asked for it."""

    run_id: UUID
    job_id: UUID
    namespace: str
    spec: dict[str, Any]
    labels: dict[str, str]
    token: Secret
    secrets: Mapping[str, Secret]
    within: timedelta
    """How long a create request may take."""
    report: Report
    """Says how far it is; as often as you like, for only the newest is written, now and then."""


class Executor(Protocol):
    """Carries out attempts of one kind of job. Raising is a bug; every outcome has a type."""

    @property
    def kind(self) -> str:
        """The jobs it carries out."""
        ...

    @property
    def is_call(self) -> bool:
        """Whether the remote run is over when `execute` returns, and leaves no id behind."""
        ...

    @property
    def resumes(self) -> bool:
        """Whether a call that was cut off is begun again, and goes on where it was left."""
        ...

    @property
    def slots(self) -> int:
        """How many attempts one worker carries out at a time."""
        ...

    async def execute(self, order: Order) -> Outcome:
        """Do it, and say how it went."""
        ...


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
