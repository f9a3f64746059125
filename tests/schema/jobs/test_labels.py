"""Jobs are found by their labels, wherever those come from, and as long as the jobs are there."""

from uuid import UUID

import asyncpg
import pytest

from schema.db.database import Database
from schema.jobs import queries
from schema.jobs.queries import JobFilter
from schema.jobs.tables import JobKind
from tests.support.database.row_security import tenant_transaction
from tests.support.factories import JobFactory
from tests.support.subjects import ADA_ID, BOB_ID


async def list_ids(
    database: Database,
    labels: dict[str, str],
    *,
    subject_id: str = ADA_ID,
    kind: JobKind | None = None,
    before: UUID | None = None,
    limit: int = 10,
) -> list[UUID]:
    job_filter = JobFilter(None, None, kind, labels)
    async with database.transaction() as tx:
        jobs = await queries.list_jobs(tx, subject_id, job_filter, before=before, limit=limit)
    return [job.id for job in jobs]


async def test_a_job_is_found_by_all_of_the_labels_together(
    database: Database, make_job: JobFactory
) -> None:
    """One label is looked up, and the others are compared."""
    both = await make_job(labels={"team": "nlp", "run": "1"})
    other_run = await make_job(labels={"team": "nlp", "run": "2"})
    await make_job(labels={"team": "cv", "run": "1"})
    await make_job()

    assert await list_ids(database, {"team": "nlp"}) == [other_run.id, both.id]
    assert await list_ids(database, {"team": "nlp", "run": "1"}) == [both.id]
    assert await list_ids(database, {"team": "nlp", "run": "3"}) == []
    assert await list_ids(database, {"team": "1"}) == []
    assert len(await list_ids(database, {})) == 4


async def test_pages_of_a_label_follow_one_another(
    database: Database, make_job: JobFactory
) -> None:
    jobs = [await make_job(labels={"team": "nlp"}) for _ in range(5)]
    newest_first = [job.id for job in reversed(jobs)]

    first = await list_ids(database, {"team": "nlp"}, limit=2)
    second = await list_ids(database, {"team": "nlp"}, limit=2, before=first[-1])
    third = await list_ids(database, {"team": "nlp"}, limit=2, before=second[-1])

    assert first + second + third == newest_first


async def test_a_label_and_another_filter_hold_together(
    database: Database, make_job: JobFactory
) -> None:
    call = await make_job(labels={"team": "nlp"}, kind=JobKind.INFERENCE)
    await make_job(labels={"team": "nlp"})

    assert await list_ids(database, {"team": "nlp"}, kind=JobKind.INFERENCE) == [call.id]


async def test_the_same_label_of_somebody_else_finds_nothing(
    database: Database, make_job: JobFactory
) -> None:
    await make_job(labels={"team": "nlp"})

    assert await list_ids(database, {"team": "nlp"}, subject_id=BOB_ID) == []


async def test_labels_are_never_changed(database: Database, make_job: JobFactory) -> None:
    """They are stored twice, and stay the same in both places."""
    job = await make_job(labels={"team": "nlp"})

    with pytest.raises(asyncpg.RaiseError, match="labels"):
        async with database.transaction() as tx:
            await tx.execute(
                "UPDATE job SET labels = '{}', version = version + 1 WHERE id = $1", job.id
            )


async def test_nobody_but_the_deletion_of_a_job_takes_its_labels_away(
    database_url: str, make_job: JobFactory
) -> None:
    """What a service that is broken into may not do."""
    await make_job(labels={"team": "nlp"})

    for statement in ("DELETE FROM job_label", "UPDATE job_label SET value = 'cv'"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with tenant_transaction(database_url, ADA_ID) as tx:
                await tx.execute(statement)


async def test_nobody_labels_a_job_of_somebody_else(
    database_url: str, make_job: JobFactory
) -> None:
    """It would be listed under a label that its owner did not give it."""
    job = await make_job()

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with tenant_transaction(database_url, BOB_ID) as tx:
            await tx.execute("INSERT INTO job_label VALUES ($1, 'team', $2, 'nlp')", job.id, ADA_ID)
