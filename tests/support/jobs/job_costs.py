"""Held and spent costs, and the transitions that tests of them need."""

from datetime import timedelta
from typing import Any, Final

from schema.billing.budgets import Rate
from schema.db.database import Database
from schema.jobs import deadlines, lifecycle, run_end, run_launch
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import Job

TEN_CENT_RATE: Final = Rate(price_micro_usd=10_000, timeout=timedelta(minutes=10))
"""Ten cents at worst, a cent a minute."""
THIRTY_CENT_RATE: Final = Rate(price_micro_usd=10_000, timeout=timedelta(minutes=30))
DOLLAR_MICRO_USD: Final = 1_000_000


_HELD_AND_SPENT: Final = """
SELECT coalesce(sum(held_micro_usd), 0)::int AS held,
       coalesce(sum(spent_micro_usd), 0)::int AS spent FROM {table}
"""


async def read_held_and_spent(database: Database, table: str = "spending") -> tuple[int, int]:
    """Return what is held and what was spent."""
    async with database.transaction() as tx:
        row = await tx.fetchrow(_HELD_AND_SPENT.format(table=table))
    assert row is not None
    return row["held"], row["spent"]


async def read_job_cost(database: Database, job: Job) -> dict[str, Any]:
    async with database.transaction() as tx:
        row = await tx.fetchrow("SELECT * FROM job_cost WHERE job_id = $1", job.id)
    return dict(row or {})


async def cancel_job(database: Database, job: Job) -> None:
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, job.id, subject_id=job.subject_id)


async def record_remote_id(
    database: Database, claim: ClaimedJob, remote_id: str = "r1", *, stage: str = "RUNNING"
) -> None:
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx,
            claim.run_id,
            remote_id=remote_id,
            stage=stage,
            worker="w",
            poll_after=timedelta(0),
        )
        await run_end.record_stage(tx, claim.run_id, stage=stage, started_at=None, worker="w")


async def give_up_launch(
    database: Database, claim: ClaimedJob, *, relaunch: bool, monthly_budget: int | None
) -> None:
    """Give up a launch whose answer was lost, and which no listing shows."""
    async with database.transaction() as tx:
        await run_launch.mark_unconfirmed(tx, claim.run_id, cause="timeout", worker="w")
        for _ in range(run_end.MIN_MISSED_LISTINGS):
            await run_end.record_missed_listing(tx, claim.run_id, recheck_after=timedelta(0))
        await run_end.mark_absent(
            tx, claim.run_id, worker="w", relaunch=relaunch, default_monthly_budget=monthly_budget
        )


async def stop_watching_absent_runs(database: Database) -> None:
    """Let the watch for what was given up come to its end."""
    async with database.transaction() as tx:
        await tx.execute("UPDATE remote_run SET deadline_at = now() WHERE state = 'absent'")
        await deadlines.stop_watching_absent_runs(tx, worker="w")
