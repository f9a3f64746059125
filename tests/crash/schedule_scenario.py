"""Schedules in a scenario: all are due at once, and each makes one job."""

import asyncio
import time
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from schema.accounts.vault import Secret, Vault
from schema.billing import price_store
from schema.common import ids
from schema.common.errors import Unavailable
from schema.db.database import Database
from schema.jobs.tables import JobKind
from schema.schedules import store as schedule_store
from schema.schedules.store import NewSchedule
from schema.schedules.tables import MissedPolicy, OverlapPolicy
from tests.crash.crash_matrix import CrashCase

SCHEDULE_COUNT: Final = 3
_PRICE: Final = {"name": "cpu-basic", "unitLabel": "minute", "unitCostMicroUSD": 167}
_TIMEOUT_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.1


async def run_schedules(
    case: CrashCase, database: Database, vault: Vault, subject_id: str, spec: dict[str, Any]
) -> list[UUID]:
    """Let schedules fire in the cases of that loop; return the jobs that they made."""
    if not case.point.startswith("fire."):
        return []
    created = False
    while not created:
        with suppress(Unavailable):
            await _make_due_schedules(database, vault, subject_id, spec)
            created = True
    return await _wait_for_firings(database)


async def _make_due_schedules(
    database: Database, vault: Vault, subject_id: str, spec: dict[str, Any]
) -> None:
    async with database.transaction() as tx:
        await price_store.save_price_list(tx, [_PRICE])
        now = await schedule_store.read_database_time(tx)
        for number in range(SCHEDULE_COUNT):
            schedule = NewSchedule(
                name=f"crash {number}",
                cron="0 0 1 1 *",
                timezone="UTC",
                overlap=OverlapPolicy.ALLOW,
                missed=MissedPolicy.RUN_ONCE,
                workspace_id=None,
                kind=JobKind.HUB_JOB,
                namespace="alice",
                title="crash",
                spec=spec,
                labels={},
                most_micro_usd=None,
                ceiling_micro_usd=None,
                idempotency_key=None,
            )
            await schedule_store.create_schedule(
                tx,
                vault,
                subject_id,
                ids.new_id(),
                schedule,
                next_at=now,
                secrets={"KEY": Secret("hidden")} if number else {},
            )


async def _wait_for_firings(database: Database) -> list[UUID]:
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        with suppress(Unavailable):
            async with database.transaction() as tx:
                done = await tx.fetchval("SELECT count(*) FROM schedule_firing")
                jobs = await tx.fetch("SELECT id FROM job WHERE schedule_id IS NOT NULL")
            if done >= SCHEDULE_COUNT:
                return [row["id"] for row in jobs]
        await asyncio.sleep(_POLL_SECONDS)  # between two looks at what others do
    raise TimeoutError("a schedule has not fired")
