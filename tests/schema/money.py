"""What is held and spent, and the moves that tests of it need."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from schema.billing.budgets import Rate
from schema.db.database import Database
from schema.jobs import deadlines, lifecycle, run_end, run_launch
from schema.jobs.run_launch import Claim
from schema.jobs.tables import Job

DIME: Final = Rate(price_micro_usd=10_000, timeout=timedelta(minutes=10))
"""Ten cents at worst, a cent a minute."""
THIRTY_CENTS: Final = Rate(price_micro_usd=10_000, timeout=timedelta(minutes=30))
DOLLAR: Final = 1_000_000

WorkspaceFactory = Callable[..., Awaitable[UUID]]

_SUMS: Final = """
SELECT coalesce(sum(held_micro_usd), 0)::int AS held,
       coalesce(sum(spent_micro_usd), 0)::int AS spent FROM {table}
"""


async def sums(database: Database, table: str = "spending") -> tuple[int, int]:
    """Return what is held and what was spent."""
    async with database.transaction() as tx:
        row = await tx.fetchrow(_SUMS.format(table=table))
    assert row is not None
    return row["held"], row["spent"]


async def cost(database: Database, job: Job) -> dict[str, Any]:
    async with database.transaction() as tx:
        row = await tx.fetchrow("SELECT * FROM job_cost WHERE job_id = $1", job.id)
    return dict(row or {})


async def cancel(database: Database, job: Job) -> None:
    async with database.transaction() as tx:
        await lifecycle.cancel(tx, job.id, subject_id=job.subject_id)


async def bind(database: Database, claim: Claim, remote_id: str = "r1") -> None:
    async with database.transaction() as tx:
        await run_launch.bind(
            tx,
            claim.run_id,
            remote_id=remote_id,
            stage="RUNNING",
            worker="w",
            look_again=timedelta(0),
        )


async def lose(database: Database, claim: Claim, *, relaunch: bool, monthly: int | None) -> None:
    """Give up a launch whose answer was lost, and which no listing shows."""
    async with database.transaction() as tx:
        await run_launch.doubt(tx, claim.run_id, why="timeout", worker="w")
        for _ in range(run_end.MISSES):
            await run_end.miss(tx, claim.run_id, look_again=timedelta(0))
        await run_end.conclude_absent(
            tx, claim.run_id, worker="w", relaunch=relaunch, monthly_budget=monthly
        )


async def stop_watching(database: Database) -> None:
    """Let the watch for what was given up come to its end."""
    async with database.transaction() as tx:
        await tx.execute("UPDATE remote_run SET deadline_at = now() WHERE state = 'absent'")
        await deadlines.stop_watching(tx, worker="w")
