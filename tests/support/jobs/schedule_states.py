"""Schedules made as the service makes them, and due whenever a test decides."""

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
from schema.schedules.store import NewSchedule, ScheduleStatus
from schema.schedules.tables import MissedPolicy, OverlapPolicy, ScheduleSnapshot
from tests.support.subjects import ADA_ID

ScheduleFactory = Callable[..., Awaitable[UUID]]

SCHEDULE_REQUEST: Final = NewSchedule(
    name="nightly",
    cron="*/5 * * * *",
    timezone="UTC",
    overlap=OverlapPolicy.SKIP,
    missed=MissedPolicy.RUN_ONCE,
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
CPU_BASIC_PRICE: Final = {"name": "cpu-basic", "unitLabel": "minute", "unitCostMicroUSD": 167}


async def make_schedule(
    database: Database,
    vault: Vault,
    *,
    due_in: timedelta = timedelta(0),
    secrets: Mapping[str, Secret] | None = None,
    subject_id: str = ADA_ID,
    **overrides: Any,
) -> UUID:
    """Make a schedule of Ada's that is due now, unless said otherwise; it knows what it costs."""
    schedule_id = ids.new_id()
    async with database.transaction() as tx:
        await price_store.save_price_list(tx, [CPU_BASIC_PRICE])
        return await schedule_store.create_schedule(
            tx,
            vault,
            subject_id,
            schedule_id,
            replace(SCHEDULE_REQUEST, **overrides),
            next_at=await schedule_store.read_database_time(tx) + due_in,
            secrets=secrets or {},
        )


async def read_schedule(database: Database, schedule_id: UUID) -> ScheduleStatus:
    """Return a schedule as it stands."""
    async with database.transaction() as tx:
        schedule = await schedule_store.get_schedule(tx, ADA_ID, schedule_id)
    assert schedule is not None
    return schedule


async def set_due(database: Database, schedule_id: UUID, overdue_by: timedelta) -> datetime:
    """Let the next firing be one that was due a while ago."""
    async with database.transaction() as tx:
        moment: datetime = await tx.fetchval(
            "UPDATE schedule SET next_at = now() - $2::interval, due_at = now() - $2::interval"
            " WHERE id = $1 RETURNING next_at",
            schedule_id,
            overdue_by,
        )
    return moment


async def lease_due_schedules(
    database: Database, *, lease: timedelta = timedelta(minutes=1)
) -> list[ScheduleSnapshot]:
    """Take what is due, as a worker does."""
    async with database.transaction() as tx:
        return await firing.lease_due_schedules(tx, limit=100, lease=lease)
