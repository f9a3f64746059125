"""Adoptions in the database: what a person's own row-level security lets them insert."""

from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from schema.billing.budgets import Rate
from schema.common import ids
from schema.db.database import Database
from schema.jobs import adoption, run_end
from schema.jobs.adoption import UntrackedRun
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState
from tests.support.subjects import ADA_ID, BOB_ID

REMOTE_ID = "6a31d7ef5ff0a6cf94f9f8b9"
LONG_AGO = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
async def bob_id(database: Database) -> str:
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'bob')", BOB_ID)
    return BOB_ID


async def adopt(database: Database, subject_id: str, created_at: datetime = LONG_AGO) -> bool:
    """Adopt the same job of the organisation `org` for a person."""
    run = UntrackedRun(
        job_id=ids.derive_id(created_at, subject_id, "org", REMOTE_ID),
        run_id=ids.new_id(),
        subject_id=subject_id,
        namespace="org",
        remote_id=REMOTE_ID,
        stage="RUNNING",
        created_at=created_at,
    )
    request: dict[str, Any] = {"image": "python:3.12", "command": ["true"]}
    async with database.transaction() as tx:
        is_made = await adoption.recreate_job(
            tx,
            run,
            title="python:3.12: true",
            labels={},
            spec=request,
            created_at=created_at,
            has_secrets=False,
            rate=Rate(100, timedelta(minutes=10)),
            adoption={"missing": []},
            actor=subject_id,
        )
        return is_made and await adoption.adopt_run(
            tx, run, earliest=LONG_AGO, max_stage_duration=None, actor=subject_id
        )


async def test_two_people_of_an_organisation_each_have_a_handle_of_a_job(
    database: Database, ada_id: str, bob_id: str
) -> None:
    """Whoever comes second is not refused: that would tell them of the first."""
    assert await adopt(database, ada_id)
    assert await adopt(database, bob_id)

    async with database.transaction() as tx:
        handles = [
            await adoption.find_handles(tx, subject_id, "org", remote_ids=[REMOTE_ID])
            for subject_id in (ada_id, bob_id)
        ]
    assert [len(each) for each in handles] == [2, 2]
    assert handles[0][REMOTE_ID] != handles[1][REMOTE_ID]


async def test_one_person_has_one_run_of_a_job(database: Database, ada_id: str) -> None:
    """The second adoption makes nothing; and the table would refuse another run of that job."""
    assert await adopt(database, ada_id)
    assert not await adopt(database, ada_id)

    with pytest.raises(asyncpg.UniqueViolationError, match="remote_id"):
        async with database.transaction() as tx:
            await tx.execute(
                "INSERT INTO remote_run (id, job_id, subject_id, namespace, kind, attempt, origin,"
                " desired, state, remote_id, due_at, absent_after)"
                " SELECT gen_random_uuid(), job_id, subject_id, namespace, kind, 2, 'surplus',"
                " 'dead', state, remote_id, now(), now() FROM remote_run"
            )


async def test_a_job_counts_to_the_month_in_which_it_was_created(
    database: Database, ada_id: str
) -> None:
    """What was spent in January is no reason to refuse a launch in December."""
    await adopt(database, ada_id)
    async with database.transaction() as tx:
        run_id = await tx.fetchval("SELECT id FROM remote_run")
        ended = RunResult(JobState.SUCCEEDED, "COMPLETED", run_duration=timedelta(minutes=3))
        await run_end.end_run(tx, run_id, ended, worker="w")
        spending = await tx.fetch("SELECT month, held_micro_usd, spent_micro_usd FROM spending")

    assert [tuple(row.values()) for row in spending] == [(LONG_AGO.date().replace(day=1), 0, 300)]


async def test_an_adopted_run_is_never_expired(database: Database, ada_id: str) -> None:
    """We did not launch it, so we do not end it because it takes long."""
    await adopt(database, ada_id)

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT deadline_at FROM remote_run WHERE state = 'bound'") is None
        assert await tx.fetchval("SELECT adoption FROM job") == {"missing": []}


async def test_nobody_adopts_for_another(database: Database, ada_id: str, bob_id: str) -> None:
    """The role of the service may insert runs since it adopts; row-level security says whose."""
    await adopt(database, ada_id)
    async with database.transaction() as tx:
        job_id = await tx.fetchval("SELECT id FROM job")

    async def insert_run() -> None:
        async with database.transaction() as tx:
            await tx.execute("SET LOCAL ROLE holdfast_tenant")
            await tx.execute("SELECT set_config('holdfast.subject', $1, true)", bob_id)
            await tx.execute(
                "INSERT INTO remote_run (id, job_id, subject_id, namespace, kind, attempt, state,"
                " due_at, absent_after)"
                " VALUES (gen_random_uuid(), $1, $2, 'org', 'hub_job', 2, 'posting', now(), now())",
                job_id,
                ADA_ID,
            )

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await insert_run()
