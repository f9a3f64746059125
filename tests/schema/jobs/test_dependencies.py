"""Jobs that wait for jobs begin exactly when they may; what never will ends with the reason."""

import asyncio
import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from schema.billing.budgets import Rate
from schema.common import ids
from schema.common.errors import IdempotencyConflict, NotFound
from schema.db.database import Database, Transaction
from schema.jobs import deadlines, lifecycle, run_end, run_launch
from schema.jobs import dependencies as job_dependencies
from schema.jobs import queries as job_queries
from schema.jobs.dependencies import DependencyCondition
from schema.jobs.queries import JobStatus
from schema.jobs.run_end import RunResult
from schema.jobs.tables import FINAL_STATES, Job, JobKind, JobState, Reason
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.jobs.handles import job_handle
from tests.support.subjects import ADA_ID, EVE_ID

RESULTS_BY_STATE: dict[JobState, RunResult] = {
    JobState.SUCCEEDED: RunResult(JobState.SUCCEEDED, "COMPLETED"),
    JobState.FAILED: RunResult(JobState.FAILED, "ERROR", Reason.OOM),
}


async def start_due_runs(database: Database, claim: ClaimFactory) -> dict[UUID, UUID]:
    """Claim whatever is due and bind it; return the runs by their jobs."""
    claims = await claim()
    async with database.transaction() as tx:
        for one in claims:
            await run_launch.record_remote_id(
                tx,
                one.run_id,
                remote_id=one.run_id.hex,
                stage="RUNNING",
                worker="w1",
                poll_after=timedelta(0),
            )
    return {one.job_id: one.run_id for one in claims}


async def read_released_jobs(database: Database) -> None:
    async with database.transaction() as tx:
        await job_dependencies.release_waiting_jobs(tx, worker="w1")


async def read_status(database: Database, job: Job | UUID) -> JobStatus:
    async with database.transaction() as tx:
        status = await job_queries.get_job_status(
            tx, ADA_ID, job if isinstance(job, UUID) else job.id
        )
    assert status is not None
    return status


@pytest.mark.parametrize(
    ("went", "on", "state"),
    [
        (JobState.SUCCEEDED, DependencyCondition.SUCCESS, JobState.QUEUED),
        (JobState.FAILED, DependencyCondition.SUCCESS, JobState.FAILED),
        (JobState.SUCCEEDED, DependencyCondition.FINISH, JobState.QUEUED),
        (JobState.FAILED, DependencyCondition.FINISH, JobState.QUEUED),
        (JobState.CANCELLED, DependencyCondition.FINISH, JobState.QUEUED),
        (JobState.CANCELLED, DependencyCondition.SUCCESS, JobState.FAILED),
    ],
)
async def test_a_job_begins_when_the_one_before_it_has_ended_as_it_must(
    database: Database,
    make_job: JobFactory,
    claim_jobs: ClaimFactory,
    went: JobState,
    on: DependencyCondition,
    state: JobState,
) -> None:
    """Before that nobody can claim it; what waits in vain fails for it, and costs nothing."""
    rate = Rate(100, timedelta(minutes=10))
    parent = await make_job()
    child = await make_job(parent_ids=[parent.id], dependency_condition=on, rate=rate)
    runs = await start_due_runs(database, claim_jobs)
    assert runs.keys() == {parent.id}
    await read_released_jobs(database)
    assert not await claim_jobs()

    async with database.transaction() as tx:
        if went is JobState.CANCELLED:
            assert await lifecycle.cancel_job(tx, parent.id, subject_id=ADA_ID)
        else:
            await run_end.end_run(tx, runs[parent.id], RESULTS_BY_STATE[went], worker="w1")
    assert not await claim_jobs()
    await read_released_jobs(database)

    status = await read_status(database, child)
    assert status.state is state
    if state is JobState.FAILED:
        handle = job_handle(parent.id)
        how = "failed as oom" if went is JobState.FAILED else "cancelled"
        assert (status.reason, status.message) == (
            Reason.DEPENDENCY_FAILED,
            f"{handle} {how}.",
        )
        assert (status.held_micro_usd, status.spent_micro_usd) == (0, 0)
    else:
        assert [one.job_id for one in await claim_jobs()] == [child.id]


async def test_a_parent_that_ends_while_its_child_is_written_down_is_not_missed(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Whichever of the two commits first, the other sees it."""
    parent = await make_job()
    runs = await start_due_runs(database, claim_jobs)

    async def end() -> None:
        async with database.transaction() as tx:
            await run_end.end_run(
                tx, runs[parent.id], RESULTS_BY_STATE[JobState.SUCCEEDED], worker="w1"
            )

    async with database.transaction() as tx:
        child = await submit(tx, parent_ids=[parent.id])
        ending = asyncio.create_task(end())
        await waits_for_a_lock(database)
    await ending
    await read_released_jobs(database)

    assert [one.job_id for one in await claim_jobs()] == [child.id]


async def test_a_child_written_down_while_its_parent_ends_sees_the_end(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """It is due at once: there is nobody left to wait for."""
    parent = await make_job()
    runs = await start_due_runs(database, claim_jobs)

    async def ask() -> Job:
        async with database.transaction() as tx:
            return await submit(tx, parent_ids=[parent.id])

    async with database.transaction() as tx:
        await run_end.end_run(
            tx, runs[parent.id], RESULTS_BY_STATE[JobState.SUCCEEDED], worker="w1"
        )
        asking = asyncio.create_task(ask())
        await waits_for_a_lock(database)
    child = await asking
    await read_released_jobs(database)

    assert (await read_status(database, child)).version == child.version
    assert [one.job_id for one in await claim_jobs()] == [child.id]


@pytest.mark.parametrize("seed", range(8))
async def test_any_net_of_jobs_comes_to_the_end_its_parents_say(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory, seed: int
) -> None:
    """Random nets, endings and cancels, in random order; nobody begins early, and nobody hangs."""
    dice = random.Random(seed)  # noqa: S311  # keeps no secret
    net: dict[UUID, tuple[list[UUID], DependencyCondition]] = {}
    for _ in range(dice.randint(4, 9)):
        parents = dice.sample([*net], k=min(len(net), dice.randint(0, 3)))
        on = dice.choice(list(DependencyCondition))
        net[(await make_job(parent_ids=parents, dependency_condition=on)).id] = (parents, on)
    ended: dict[UUID, JobState] = {}
    running: dict[UUID, UUID] = {}
    while len(ended) < len(net):
        before = dict(ended)
        begun = await start_due_runs(database, claim_jobs)
        for job_id in begun:
            parents, on = net[job_id]
            assert all(is_satisfied(before, parent, on) for parent in parents)
        running |= begun
        await end_random_job(
            database, dice, running, [each for each in net if each not in ended], ended
        )
        await read_released_jobs(database)
        for job_id in net:
            state = (await read_status(database, job_id)).state
            if state in FINAL_STATES:
                ended[job_id] = state

    for job_id, (parents, on) in net.items():
        if (await read_status(database, job_id)).reason is Reason.DEPENDENCY_FAILED:
            assert not all(is_satisfied(ended, parent, on) for parent in parents)
    async with database.transaction() as tx:
        assert await tx.fetch("SELECT * FROM v_unowned") == []
        assert await tx.fetchval("SELECT queued + active FROM subject WHERE id = $1", ADA_ID) == 0


def is_satisfied(ended: dict[UUID, JobState], parent: UUID, on: DependencyCondition) -> bool:
    return parent in ended and (
        on is DependencyCondition.FINISH or ended[parent] is JobState.SUCCEEDED
    )


async def end_random_job(
    database: Database,
    rng: random.Random,
    running: dict[UUID, UUID],
    open_ones: list[UUID],
    ended: dict[UUID, JobState],
) -> None:
    """End one of those that run, or call one off that does not."""
    at_work = [each for each in running if each not in ended]
    async with database.transaction() as tx:
        if at_work and rng.random() < 0.8:
            how = rng.choice([JobState.SUCCEEDED, JobState.SUCCEEDED, JobState.FAILED])
            await run_end.end_run(
                tx, running[rng.choice(at_work)], RESULTS_BY_STATE[how], worker="w1"
            )
        elif idle := [each for each in open_ones if each not in running]:
            await lifecycle.cancel_job(tx, rng.choice(idle), subject_id=ADA_ID)


@pytest.mark.parametrize("whose", ["foreign", "nobody's", "its own"])
async def test_a_job_can_only_wait_for_one_of_its_subjects_that_exists(
    database: Database, make_job: JobFactory, whose: str
) -> None:
    """So there are no circles: a parent is always older. Nothing of the refused job is kept.

    Here the statement itself refuses it; `test_row_security_of_statements` tries row-level security
    without it.
    """
    foreign = await make_job()
    own = ids.new_id()
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'eve')", EVE_ID)
    named = {"foreign": foreign.id, "nobody's": ids.new_id(), "its own": own}[whose]

    with pytest.raises(NotFound):
        async with database.transaction() as tx:
            await submit(tx, subject_id=EVE_ID, job_id=own, parent_ids=[named])

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job WHERE id = $1", own) == 0


async def test_the_same_key_with_other_parents_is_a_conflict(
    database: Database, make_job: JobFactory
) -> None:
    """Nobody is told of a job that waits for something else."""
    one, two = await make_job(), await make_job()
    arguments: dict[str, Any] = {"idempotency_key": "k"}
    first = await make_job(**arguments, parent_ids=[one.id, two.id])

    again = await make_job(**arguments, parent_ids=[two.id, one.id])
    with pytest.raises(IdempotencyConflict, match="after"):
        await make_job(**arguments, parent_ids=[one.id])
    with pytest.raises(IdempotencyConflict, match="on"):
        await make_job(
            **arguments,
            parent_ids=[one.id, two.id],
            dependency_condition=DependencyCondition.FINISH,
        )

    assert again.id == first.id


async def test_waiting_for_a_job_is_not_waiting_for_too_long(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """A parent may run for weeks; the patience with a child begins when it may begin."""
    parent = await make_job()
    child = await make_job(parent_ids=[parent.id])
    await start_due_runs(database, claim_jobs)
    async with database.transaction() as tx:
        await deadlines.fail_abandoned_jobs(tx, abandon_after=timedelta(0), worker="w1")

    assert (await read_status(database, child)).state is JobState.QUEUED


async def submit(tx: Transaction, **more: Any) -> Job:
    request: dict[str, Any] = {
        "subject_id": ADA_ID,
        "kind": JobKind.HUB_JOB,
        "namespace": "ada",
        "title": "t",
        "spec": {},
        "labels": {},
        "max_open_jobs": 100,
    }
    return await lifecycle.submit_job(tx, **request | more)


async def waits_for_a_lock(database: Database) -> None:
    async with asyncio.timeout(10):
        while True:
            async with database.transaction() as tx:
                if await tx.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                    return
            await asyncio.sleep(0.01)  # between two looks at the locks
