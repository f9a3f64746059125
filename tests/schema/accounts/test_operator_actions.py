"""What an operator does to a subject takes hold of launches, and of nothing else."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from schema.accounts import credentials, operator_actions
from schema.accounts.operator_actions import SubjectLimits
from schema.accounts.tables import Hold
from schema.db.database import Database, Transaction
from schema.jobs import lifecycle, run_launch, work_queues
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.subjects import ADA_ID

MINUTE = timedelta(minutes=1)


async def act(
    database: Database, action: Callable[[Transaction, str], Awaitable[SubjectLimits | None]]
) -> SubjectLimits | None:
    """Take an action on Ada in a transaction of its own."""
    async with database.transaction() as tx:
        return await action(tx, ADA_ID)


async def test_a_hold_stops_launches_until_it_is_released(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """The job keeps its place; a second hold or release says that there is nothing to do."""
    await make_job()

    first = await act(database, operator_actions.hold_subject)
    second = await act(database, operator_actions.hold_subject)
    meanwhile = await claim_jobs()
    released = await act(database, operator_actions.release_subject)
    again = await act(database, operator_actions.release_subject)

    assert first is not None
    assert (first.hold, first.queued) == (Hold.OPERATOR, 1)
    assert released is not None
    assert released.hold is None
    assert (second, again, meanwhile) == (None, None, [])
    assert len(await claim_jobs()) == 1
    async with database.transaction() as tx:
        actions = await tx.fetch("SELECT action FROM audit_entry WHERE action LIKE 'subject_%'")
    assert [row["action"] for row in actions] == ["subject_held", "subject_released"]


async def test_what_runs_is_watched_and_killed_under_a_hold(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """A person who may not launch can still stop what costs money."""
    job = await make_job()
    (claim,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx, claim.run_id, remote_id="r1", stage="RUNNING", worker="w", poll_after=-MINUTE
        )
    await act(database, operator_actions.hold_subject)

    async with database.transaction() as tx:
        polls = await work_queues.lease_due_poll_groups(tx, limit=9, lease=MINUTE)
        await lifecycle.cancel_job(tx, job.id, subject_id=ADA_ID)
    async with database.transaction() as tx:
        kills = await work_queues.lease_due_runs(tx, limit=9, lease=MINUTE)

    assert [poll.subject_id for poll in polls] == [ADA_ID]
    assert [run.id for run in kills] == [claim.run_id]


async def test_nothing_is_tried_with_a_refused_token_under_a_hold(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Once released, the jobs wait for another token."""
    await make_job()
    (claim,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.mark_unconfirmed(tx, claim.run_id, cause="x", worker="w")
    await act(database, operator_actions.hold_subject)
    async with database.transaction() as tx:
        await credentials.mark_credential_refused(tx, ADA_ID, version=1)

    async with database.transaction() as tx:
        runs = await work_queues.lease_due_runs(tx, limit=9, lease=MINUTE)
    released = await act(database, operator_actions.release_subject)

    assert runs == []
    assert released is not None
    assert released.hold is Hold.CREDENTIALS


@pytest.mark.parametrize("max_active", [0, 1])
async def test_a_limit_counts_from_the_next_launch(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory, max_active: int
) -> None:
    """Nothing that runs is stopped for it."""
    for _ in range(3):
        await make_job()
    running = await claim_jobs(limit=1)

    async with database.transaction() as tx:
        limited = await operator_actions.limit_subject(tx, ADA_ID, max_active=max_active)

    assert limited is not None
    assert (limited.active, limited.max_active) == (len(running), max_active)
    assert await claim_jobs() == []


async def test_a_subject_is_found_by_name_and_by_id(database: Database, ada_id: str) -> None:
    """A name that several had at different times is not guessed about."""
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ('b', 'ada'), ('c', 'carol')")
        ids = {
            text: [subject.id for subject in await operator_actions.find_subjects(tx, text)]
            for text in (ada_id, "ada", "carol", "nobody")
        }
        everybody = await operator_actions.list_subjects(tx, limit=2)

    assert ids == {ada_id: [ada_id], "ada": [ada_id, "b"], "carol": ["c"], "nobody": []}
    assert len(everybody) == 2
