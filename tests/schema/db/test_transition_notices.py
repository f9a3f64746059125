"""What a process learns of the transitions that it has committed."""

from collections.abc import AsyncGenerator

import pytest

from schema.common.observability.transitions import JobTransition
from schema.db.database import Database
from schema.jobs import run_end, run_launch
from schema.jobs.run_end import RunResult
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobKind, JobState, Reason
from tests.support.factories import JobFactory
from tests.support.jobs.worker_steps import LEASE, SETTLE
from tests.support.subjects import ADA_ID


@pytest.fixture
def transitions() -> list[JobTransition]:
    """What was committed, in its order."""
    return []


@pytest.fixture
async def database(database_url: str, transitions: list[JobTransition]) -> AsyncGenerator[Database]:
    """A database that tells what it has committed."""
    async with Database(
        database_url, application_name="tests", on_transitions=transitions.extend
    ) as opened:
        yield opened


async def claim(database: Database) -> ClaimedJob:
    async with database.transaction() as tx:
        [claimed] = await run_launch.claim(
            tx, JobKind.HUB_JOB, limit=1, worker="w", lease=LEASE, settle_window=SETTLE
        )
    return claimed


async def test_each_event_of_a_job_is_told_once_and_one_of_them_is_its_end(
    database: Database, make_job: JobFactory, transitions: list[JobTransition]
) -> None:
    """Counters and log lines are made of it: what is missing or doubled here is wrong there."""
    job = await make_job()
    claimed = await claim(database)
    async with database.transaction() as tx:
        await run_launch.mark_not_created(
            tx, claimed.run_id, reason=Reason.INVALID_REQUEST, message="no", worker="w"
        )
    async with database.transaction() as tx:  # the Hub has a run after all
        await run_launch.record_remote_id(
            tx, claimed.run_id, remote_id="r1", stage=None, worker="w", poll_after=LEASE
        )
        await run_end.end_run(tx, claimed.run_id, RunResult(JobState.CANCELLED, "X"), worker="w")

    facts = [(each.event, each.state, each.reason, each.is_end) for each in transitions]
    assert facts[:3] == [
        ("created", "queued", None, False),
        ("claimed", "launching", None, False),
        ("rejected", "failed", "invalid_request", True),
    ]
    assert facts[3][0] == "surplus"
    assert [each.is_end for each in transitions].count(True) == 1
    assert {(each.subject_id, each.kind) for each in transitions} == {(ADA_ID, "hub_job")}
    assert {each.job_id for each in transitions} == {job.id}


async def claim_and_fail(database: Database) -> None:
    async with database.transaction() as tx:
        await run_launch.claim(
            tx, JobKind.HUB_JOB, limit=1, worker="w", lease=LEASE, settle_window=SETTLE
        )
        raise ZeroDivisionError


async def test_what_is_rolled_back_is_not_told(
    database: Database, make_job: JobFactory, transitions: list[JobTransition]
) -> None:
    """A line about something that never happened sends an operator the wrong way."""
    await make_job()
    transitions.clear()

    with pytest.raises(ZeroDivisionError):
        await claim_and_fail(database)

    assert transitions == []
