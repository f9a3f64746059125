"""The state of one worker process: its connections, its executors, and the events of its loops."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import anyio
import structlog

from schema.accounts.vault import Vault
from schema.common.errors import Unavailable
from schema.common.observability.metrics import ProcessMetrics
from schema.common.observability.tracing import Tracer
from schema.db.database import Database, Transaction
from schema.db.grouped_writes import GroupedWrites
from schema.db.revisions import WrongRevision
from schema.hub.oauth.connection_refresh import ConnectionRefresher
from schema.settings import Settings
from workers.executor import Executor
from workers.hub.client import HubJobsClient
from workers.timing import DatabaseClock

_SHUTDOWN_WRITE_SECONDS: Final = 1.5
"""Seconds in which a step that is cut off may hand its rows back."""

log = structlog.stdlib.get_logger()


class AutoResetEvent:
    """An event that resets when a wait ends; several calls of `set` before that wake it once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """End the wait, or the next one if nobody waits now."""
        self._event.set()

    async def wait(self) -> None:
        """Wait until the event is set, and reset it."""
        await self._event.wait()
        self._event.clear()


@dataclass(frozen=True, slots=True)
class LoopEvents:
    """The wake-up events, one for each loop that takes due rows."""

    claim: AutoResetEvent = field(default_factory=AutoResetEvent)
    reconcile: AutoResetEvent = field(default_factory=AutoResetEvent)
    poll: AutoResetEvent = field(default_factory=AutoResetEvent)
    release: AutoResetEvent = field(default_factory=AutoResetEvent)
    fire: AutoResetEvent = field(default_factory=AutoResetEvent)
    send: AutoResetEvent = field(default_factory=AutoResetEvent)


@dataclass(slots=True)
class WorkerActivity:
    """What a worker is doing, for its loops and its metrics."""

    held_slots: defaultdict[str, Counter[str]] = field(
        default_factory=lambda: defaultdict(Counter[str])
    )
    """How many slots of a kind each subject holds."""
    woken_kinds: set[str] = field(default_factory=set[str])
    """Of the jobs that wake-ups were for, since the last claim."""
    lapses: Counter[str] = field(default_factory=Counter[str])
    """Runs that it took over from others, by kind."""
    webhooks: Counter[str] = field(default_factory=Counter[str])
    """Attempts to deliver a webhook, by what became of them."""
    swept_at: float = field(default_factory=time.time)
    """When it last looked through all queues, or began, in seconds since 1970 by its own clock."""
    wrong_revision: WrongRevision | None = None
    """Why it ends by itself: a later release has migrated the database."""

    def require_usable_revision(self) -> None:
        """Raise what has ended the loops, if they were not told to stop.

        Raises:
            WrongRevision: this release does not run on the database any more.
        """
        if self.wrong_revision is not None:
            raise self.wrong_revision


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process."""

    name: str
    settings: Settings
    database: Database
    vault: Vault
    hub: HubJobsClient
    executors: Mapping[str, Executor]
    deployment_id: UUID | None = None
    """The name of the deployment, for a label at the Hub; None: its jobs have no such label."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the worker is told to stop."""
    events: LoopEvents = field(default_factory=LoopEvents)
    metrics: ProcessMetrics = field(default_factory=ProcessMetrics)
    activity: WorkerActivity = field(default_factory=WorkerActivity)
    grouped_writes: GroupedWrites = field(default_factory=GroupedWrites)
    clock: DatabaseClock = field(default_factory=DatabaseClock)
    refresher: ConnectionRefresher | None = None
    """Refreshes connected accounts; None: the operator has no application at the Hub."""
    tracer: Tracer | None = None
    """Makes spans, if there is a collector."""

    async def hand_back(self, write: Callable[[Transaction], Awaitable[object]]) -> None:
        """Let a cancelled step hand its rows back in a transaction, if there is time.

        If it cannot be written, another worker takes the rows over when the lease lapses.
        """
        with anyio.move_on_after(_SHUTDOWN_WRITE_SECONDS, shield=True):
            try:
                async with self.database.transaction() as tx:
                    await write(tx)
            except Unavailable as error:
                log.warning("hand_back.lost", error=str(error))
            except Exception:  # one that cannot be written must not keep back the others
                log.exception("hand_back.broken")
