"""Schedules for tests: made as the service makes them, and due whenever a test says so."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from schema.accounts.vault import Secret, Vault
from schema.billing import price_store
from schema.common import ids
from schema.db.database import Database
from schema.jobs.tables import JobKind
from schema.schedules import firing
from schema.schedules import store as schedule_store
from schema.schedules.store import ScheduleStatus, Wanted
from schema.schedules.tables import Missed, Overlap, ReadSchedule
from tests.conftest import ADA

ScheduleFactory = Callable[..., Awaitable[UUID]]

WANTED: Final = Wanted(
    name="nightly",
    cron="*/5 * * * *",
    timezone="UTC",
    overlap=Overlap.SKIP,
    missed=Missed.RUN_ONCE,
    workspace_id=None,
    kind=JobKind.HUB_JOB,
    namespace="ada",
    title="python:3.12: true",
    spec={"image": "python:3.12", "command": ["true"], "flavor": "cpu-basic", "timeout": 60},
    labels={},
    most_micro_usd=None,
    ceiling_micro_usd=167,
    idempotency_key=None,
)
BASIC: Final = {"name": "cpu-basic", "unitLabel": "minute", "unitCostMicroUSD": 167}


async def make(
    database: Database,
    vault: Vault,
    *,
    due_in: timedelta = timedelta(0),
    secrets: Mapping[str, Secret] | None = None,
    **overrides: Any,
) -> UUID:
    """Make a schedule of Ada's that is due now, unless said otherwise; it knows what it costs."""
    schedule_id = ids.new_id()
    async with database.transaction() as tx:
        await price_store.keep(tx, [BASIC])
        return await schedule_store.make(
            tx,
            vault,
            ADA,
            schedule_id,
            replace(WANTED, **overrides),
            next_at=await schedule_store.now(tx) + due_in,
            secrets=secrets or {},
        )


async def look(database: Database, schedule_id: UUID) -> ScheduleStatus:
    """Return a schedule as it stands."""
    async with database.transaction() as tx:
        found = await schedule_store.one(tx, ADA, schedule_id)
    assert found is not None
    return found


async def set_due(database: Database, schedule_id: UUID, ago: timedelta) -> datetime:
    """Let the next firing be one that was due a while ago."""
    async with database.transaction() as tx:
        moment: datetime = await tx.fetchval(
            "UPDATE schedule SET next_at = now() - $2::interval, due_at = now() - $2::interval"
            " WHERE id = $1 RETURNING next_at",
            schedule_id,
            ago,
        )
    return moment


async def take(
    database: Database, *, lease: timedelta = timedelta(minutes=1)
) -> list[ReadSchedule]:
    """Take what is due, as a worker does."""
    async with database.transaction() as tx:
        return await firing.take(tx, limit=100, lease=lease)
