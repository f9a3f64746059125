"""Nothing is failed or deleted because the clock of Postgres was set."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest
from structlog.testing import capture_logs

from schema.db.database import Database
from schema.jobs import lifecycle, run_launch
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobKind, JobState
from schema.settings import Settings
from tests.support.database.movable_clock import MovableClock
from tests.support.factories import JobFactory
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.jobs.hub_runs import create_upstream_job, poll_namespace
from workers.context import Worker
from workers.loops import engine
from workers.loops.reconcile_runs import reconcile_runs
from workers.timing import DatabaseClock

YEAR: Final = timedelta(days=365)
HOUR: Final = timedelta(hours=1)
NOTHING: Final = timedelta(0)
ROWS: Final = "SELECT (SELECT count(*) FROM job), (SELECT count(*) FROM credential)"


@pytest.fixture
async def clock(database_url: str) -> MovableClock:
    clock = MovableClock(database_url)
    await clock.create()
    return clock


async def take_all_steps(worker: Worker) -> None:
    """Take each step that may end or delete something."""
    await engine.enforce_deadlines(worker)
    await engine.prune(worker)
    await reconcile_runs(worker)
    await poll_namespace(worker)


async def read_states(database: Database) -> list[str]:
    async with database.transaction() as tx:
        rows = await tx.fetch("SELECT state FROM job ORDER BY created_at, id")
    return [row["state"] for row in rows]


async def test_a_jump_of_a_year_neither_fails_nor_deletes_anything(
    clock: MovableClock,
    worker: Worker,
    hub_emulator: HubEmulatorProcess,
    unconfirmed_claim: ClaimedJob,
    make_job: JobFactory,
    make_settings: Callable[..., Settings],
) -> None:
    """The time that the rows wait for did not pass."""
    worker = replace(worker, settings=make_settings())
    await create_upstream_job(worker, hub_emulator, unconfirmed_claim)
    await make_job(kind=JobKind.INFERENCE)
    async with worker.database.transaction() as tx:
        (call,) = await run_launch.claim(
            tx,
            JobKind.INFERENCE,
            limit=1,
            worker="w2",
            lease=worker.settings.lease,
            settle_window=worker.settings.settle,
        )
    over = await make_job()
    async with worker.database.transaction() as tx:
        await lifecycle.cancel_job(tx, over.id, subject_id=over.subject_id)
    await make_job()
    await take_all_steps(worker)
    before = await read_states(worker.database)

    with capture_logs() as events:
        await clock.set_ahead(YEAR)
        for _ in range(2):
            await take_all_steps(worker)

    assert before == ["running", "launching", "cancelled", "queued"]
    assert await read_states(worker.database) == before
    async with worker.database.transaction() as tx:
        assert await run_launch.renew_lease(tx, call.run_id, lease=HOUR)
    jumps = [event for event in events if event["event"] == "clock.jumped"]
    assert len(jumps) == 1
    assert jumps[0]["database_seconds"] >= YEAR.total_seconds() > HOUR.total_seconds()
    assert jumps[0]["real_seconds"] < HOUR.total_seconds()


async def test_what_is_overdue_after_all_is_still_failed_after_a_jump(
    clock: MovableClock, worker: Worker, make_job: JobFactory
) -> None:
    """The guard allows for the jump, and for nothing else."""
    await make_job()
    await take_all_steps(worker)
    await clock.set_ahead(YEAR)
    await take_all_steps(worker)
    async with worker.database.transaction() as tx:
        await tx.execute(
            "UPDATE job SET due_at = due_at - $1::interval, version = version + 1",
            worker.settings.queue_deadline,
        )
        await tx.execute(
            "INSERT INTO job_event (job_id, version, kind, state, actor)"
            " SELECT id, version, 'stage', state, 'test' FROM job"
        )

    await take_all_steps(worker)

    assert await read_states(worker.database) == [JobState.FAILED]


@pytest.mark.parametrize(
    ("moves", "lead"),
    [
        ([], NOTHING),
        ([HOUR], HOUR),
        ([-HOUR], NOTHING),
        ([HOUR, NOTHING], NOTHING),
        ([-HOUR, NOTHING], HOUR),  # of rows that were written in between
        ([HOUR, 3 * HOUR], 3 * HOUR),
    ],
)
async def test_the_lead_is_that_over_any_row_that_may_have_been_written(
    clock: MovableClock, database: Database, moves: list[timedelta], lead: timedelta
) -> None:
    """A clock that is set back and forth is ahead of some rows and not of others."""
    database_clock = DatabaseClock()

    async def read_lead(lifetime: timedelta) -> timedelta:
        async with database.transaction() as tx:
            return await database_clock.read_lead(tx, lifetime)

    await read_lead(HOUR)
    for ahead in moves:
        await clock.set_ahead(ahead)
        await read_lead(HOUR)

    assert abs(await read_lead(HOUR) - lead) < timedelta(seconds=1)
    assert await read_lead(NOTHING) == NOTHING
