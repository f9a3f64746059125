"""Schedules in a scene: all due at once, each of which makes one job, wherever a worker ends."""

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
from schema.schedules.store import Wanted
from schema.schedules.tables import Missed, Overlap
from tests.crash.scenes import Scene

HOW_MANY: Final = 3
_PRICE: Final = {"name": "cpu-basic", "unitLabel": "minute", "unitCostMicroUSD": 167}
_PATIENCE: Final = 60.0
_LOOK: Final = 0.1


async def timetable(
    scene: Scene, database: Database, vault: Vault, subject_id: str, spec: dict[str, Any]
) -> list[UUID]:
    """Where a worker ends as it fires, let schedules fire; return the jobs that they made."""
    if not scene.point.startswith("fire."):
        return []
    made = False
    while not made:
        with suppress(Unavailable):
            await _make_due(database, vault, subject_id, spec)
            made = True
    return await _fired(database)


async def _make_due(
    database: Database, vault: Vault, subject_id: str, spec: dict[str, Any]
) -> None:
    async with database.transaction() as tx:
        await price_store.keep(tx, [_PRICE])
        now = await schedule_store.now(tx)
        for number in range(HOW_MANY):
            wanted = Wanted(
                name=f"crash {number}",
                cron="0 0 1 1 *",
                timezone="UTC",
                overlap=Overlap.ALLOW,
                missed=Missed.RUN_ONCE,
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
            await schedule_store.make(
                tx,
                vault,
                subject_id,
                ids.new_id(),
                wanted,
                next_at=now,
                secrets={"KEY": Secret("hidden")} if number else {},
            )


async def _fired(database: Database) -> list[UUID]:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with suppress(Unavailable):
            async with database.transaction() as tx:
                done = await tx.fetchval("SELECT count(*) FROM schedule_firing")
                made = await tx.fetch("SELECT id FROM job WHERE schedule_id IS NOT NULL")
            if done >= HOW_MANY:
                return [row["id"] for row in made]
        await asyncio.sleep(_LOOK)  # between two looks at what others do
    raise TimeoutError("a schedule has not fired")
