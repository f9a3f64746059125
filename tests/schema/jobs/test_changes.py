"""What has happened since somebody looked, and whether it is worth waking them for."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest

from schema.accounts import credentials
from schema.accounts.row_security import DatabaseRole, act_as_subject
from schema.accounts.tables import Hold
from schema.common import ids
from schema.db.database import Database
from schema.jobs import lifecycle, run_end, run_launch
from schema.jobs.monitoring import changes
from schema.jobs.monitoring.changes import JobVersion
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState
from tests.support.database.row_security import tenant_transaction
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.subjects import EVE_ID

NO_DELAY = timedelta(0)
LAST = 99
"""More than the version of any job here."""


@pytest.fixture
async def eve_job(database: Database, ada_id: str, make_job: JobFactory) -> UUID:
    """A job of Eve's."""
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'eve')", EVE_ID)
    return (await make_job(subject_id=EVE_ID)).id


@pytest.fixture
def read_changes(database_url: str, ada_id: str) -> Callable[[UUID, int], Awaitable[bool]]:
    """Say whether Ada is told of a change of a job, as the service asks it."""

    async def ask(job_id: UUID, version: int) -> bool:
        async with tenant_transaction(database_url, ada_id) as tx:
            return job_id in await changes.changed_jobs(
                tx, ada_id, {job_id: version}, {job_id: LAST}
            )

    return ask


async def test_one_statement_reads_the_versions_of_several_subjects(
    database_url: str, ada_id: str, eve_job: UUID, make_job: JobFactory
) -> None:
    """However many wait, and whoever they are, it is one a second."""
    adas = (await make_job()).id

    async with tenant_transaction(database_url, None) as tx:
        marks = await changes.read_versions(tx, [(ada_id, adas), (EVE_ID, eve_job)])

    assert marks == {(ada_id, adas): JobVersion(1, None), (EVE_ID, eve_job): JobVersion(1, None)}


async def test_a_version_is_not_read_in_somebody_elses_name(
    database_url: str, ada_id: str, eve_job: UUID, make_job: JobFactory
) -> None:
    """Who waits for a foreign handle is told as much as who waits for none."""
    adas = (await make_job()).id

    async with tenant_transaction(database_url, None) as tx:
        marks = await changes.read_versions(
            tx, [(ada_id, eve_job), (EVE_ID, adas), (EVE_ID, ids.new_id())]
        )

    assert marks == {}


async def test_row_security_applies_to_every_version_read(
    database: Database, database_url: str, ada_id: str, eve_job: UUID, make_job: JobFactory
) -> None:
    """The function has no rights of its own: it sees what the policies let its caller see."""
    adas = (await make_job()).id
    async with database.transaction() as tx:
        await tx.execute("DROP POLICY own ON job")

    async with tenant_transaction(database_url, None) as tx:
        assert await changes.read_versions(tx, [(ada_id, adas), (EVE_ID, eve_job)]) == {}


async def test_reading_versions_leaves_no_subject_set(
    database_url: str, ada_id: str, eve_job: UUID, make_job: JobFactory
) -> None:
    """What follows in the transaction is for whom it was before, or for nobody."""
    adas = (await make_job()).id
    async with tenant_transaction(database_url, None) as tx:
        await changes.read_versions(tx, [(ada_id, adas), (EVE_ID, eve_job)])
        assert await tx.fetchval("SELECT count(*) FROM job") == 0
        await act_as_subject(tx, EVE_ID)
        await changes.read_versions(tx, [(ada_id, adas)])
        assert [row["id"] for row in await tx.fetch("SELECT id FROM job")] == [eve_job]


async def test_only_the_service_reads_versions(database_url: str) -> None:
    """Whoever has no need of it has no right to it."""
    async with Database(
        database_url, application_name="tests", role=DatabaseRole.ANALYST
    ) as database:
        with pytest.raises(Exception, match="permission denied for function job_marks"):
            async with database.transaction() as tx:
                await changes.read_versions(tx, [(EVE_ID, ids.new_id())])


async def test_a_hold_shows_in_the_version(
    database: Database, database_url: str, ada_id: str, make_job: JobFactory
) -> None:
    """It stands on the subject, and moves no job."""
    job = await make_job()
    async with database.transaction() as tx:
        await credentials.mark_credential_refused(tx, ada_id, version=1)

    async with tenant_transaction(database_url, None) as tx:
        marks = await changes.read_versions(tx, [(ada_id, job.id)])

    assert marks[ada_id, job.id] == JobVersion(1, Hold.CREDENTIALS)


async def test_what_a_person_would_care_about_is_a_change_and_bookkeeping_is_not(
    database: Database,
    read_changes: Callable[[UUID, int], Awaitable[bool]],
    make_job: JobFactory,
    claim_jobs: ClaimFactory,
    ada_id: str,
) -> None:
    """A model that is woken by noise pays for it, and soon does not wait any more."""
    job = await make_job()
    assert not await read_changes(job.id, 1)
    [run] = await claim_jobs()
    assert await read_changes(job.id, 1)

    async with database.transaction() as tx:
        await run_launch.mark_unconfirmed(tx, run.run_id, cause="?", worker="w")
    assert not await read_changes(job.id, 2), "that an answer was lost"
    assert await read_changes(job.id, 1), "noise hides no change"
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx, run.run_id, remote_id="r", stage="SCHEDULING", worker="w", poll_after=NO_DELAY
        )
    assert await read_changes(job.id, 3), "that it runs"
    async with database.transaction() as tx:
        await run_end.record_stage(tx, run.run_id, stage="RUNNING", started_at=None, worker="w")
    assert await read_changes(job.id, 4), "its stage"
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)
    assert await read_changes(job.id, 5), "its state"
    async with database.transaction() as tx:
        await run_end.end_run(tx, run.run_id, RunResult(JobState.CANCELLED, "CANCELED"), worker="w")
    assert await read_changes(job.id, 6), "that it is stopped, and costs nothing any more"
    assert not await read_changes(job.id, 7)


async def test_finding_a_run_that_is_to_be_killed_is_no_change(
    database: Database,
    read_changes: Callable[[UUID, int], Awaitable[bool]],
    make_job: JobFactory,
    claim_jobs: ClaimFactory,
    ada_id: str,
) -> None:
    """It was being stopped before, and is being stopped now."""
    job = await make_job()
    [run] = await claim_jobs()
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx, run.run_id, remote_id="r", stage=None, worker="w", poll_after=NO_DELAY
        )

    assert not await read_changes(job.id, 3)
    assert await read_changes(job.id, 2)


async def test_nobody_sees_changes_of_anothers_job(
    database_url: str, ada_id: str, eve_job: UUID, database: Database
) -> None:
    """Not even that there was some."""
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, eve_job, subject_id=EVE_ID)
        assert await changes.changed_jobs(tx, EVE_ID, {eve_job: 1}, {eve_job: LAST}) == {eve_job}
        assert await changes.changed_jobs(tx, ada_id, {eve_job: 1}, {eve_job: LAST}) == frozenset()


async def test_a_change_after_what_was_read_does_not_count_yet(
    database: Database, ada_id: str, make_job: JobFactory
) -> None:
    """A cancel between two statements ended a wait with a job that was not over."""
    job_id = (await make_job()).id
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, job_id, subject_id=ada_id)

        assert await changes.changed_jobs(tx, ada_id, {job_id: 1}, {job_id: 1}) == frozenset()
        assert await changes.changed_jobs(tx, ada_id, {job_id: 1}, {job_id: LAST}) == {job_id}


async def test_an_end_is_unseen_until_its_own_subject_has_seen_it(
    database: Database, ada_id: str, make_job: JobFactory
) -> None:
    """The statements compare the subject, also where row-level security does not (as here)."""
    shown, on_a_page = await make_job(), await make_job()
    for job in (shown, on_a_page):
        async with database.transaction() as tx:
            await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)

    async def count_unseen() -> int:
        async with database.transaction() as tx:
            count: int = await tx.fetchval("SELECT count(*) FROM unseen_job")
        return count

    async with database.transaction() as tx:
        page = await changes.stamp_page(tx, ada_id, [on_a_page.id])
        assert await changes.stamp_page(tx, ada_id, [on_a_page.id]) == page
        assert await changes.stamp_page(tx, EVE_ID, [on_a_page.id]) != page
    for subject_id, unseen in ((EVE_ID, 2), (ada_id, 0)):
        async with database.transaction() as tx:
            await changes.mark_seen(tx, subject_id, [shown.id])
            await changes.acknowledge_page(tx, subject_id, page)
        assert await count_unseen() == unseen
