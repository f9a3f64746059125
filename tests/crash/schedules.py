"""Schedules in a scene: all due at once, each of which makes one job, wherever a worker ends."""

import asyncio
import time
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from schema import handles, prices, schedules
from schema.database import Database
from schema.errors import Unavailable
from schema.job import JobKind
from schema.schedule import Missed, Overlap
from schema.schedules import Wanted
from schema.vault import Secret, Vault
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
        await prices.keep(tx, [_PRICE])
        now = await schedules.now(tx)
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
            await schedules.make(
                tx,
                vault,
                subject_id,
                handles.new_id(),
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
