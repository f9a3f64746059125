"""The promises of a job's beginning and of its being called off."""

import asyncio
import secrets
from uuid import uuid4

import asyncpg
import pytest

from schema.common.errors import IdempotencyConflict, Invalid, LimitReached, LimitUsage
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs import queries as job_queries
from schema.jobs.queries import UpstreamState
from schema.jobs.tables import JobKind, JobState
from tests.support.factories import ClaimFactory, JobFactory


async def test_a_submitted_job_is_queued_with_its_first_event(
    database: Database, ada_id: str, make_job: JobFactory
) -> None:
    """What was answered exists: the row and the start of its history are one commit."""
    job = await make_job()

    async with database.transaction() as tx:
        events = await tx.fetch("SELECT version, kind, state, actor FROM job_event")
        counted = await tx.fetchval("SELECT queued FROM subject WHERE id = $1", ada_id)
    assert job.state is JobState.QUEUED
    assert [tuple(event.values()) for event in events] == [(1, "created", "queued", ada_id)]
    assert counted == 1


async def test_a_submission_that_is_rolled_back_leaves_nothing(
    database: Database, ada_id: str
) -> None:
    """Half a job would be a handle that nobody carries out, or a count that never returns."""

    async def fail_after_submitting() -> None:
        async with database.transaction() as tx:
            await lifecycle.submit_job(
                tx,
                subject_id=ada_id,
                kind=JobKind.HUB_JOB,
                namespace="ada",
                title="x",
                spec={},
                labels={},
                max_open_jobs=10,
            )
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_after_submitting()

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 0
        assert await tx.fetchval("SELECT queued FROM subject") == 0


async def test_fifty_calls_with_one_key_make_one_job(
    database: Database, make_job: JobFactory
) -> None:
    """A client that repeats itself after a lost answer must not pay twice."""
    jobs = await asyncio.gather(*(make_job(idempotency_key="k") for _ in range(50)))

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 1
        assert await tx.fetchval("SELECT queued FROM subject") == 1
    assert len({job.id for job in jobs}) == 1


async def test_a_key_with_another_request_is_refused_by_the_fields_that_differ(
    make_job: JobFactory,
) -> None:
    """Reusing a key by mistake must neither launch nor hand out a job that was not asked for."""
    await make_job(idempotency_key="k")

    with pytest.raises(IdempotencyConflict) as refused:
        await make_job(idempotency_key="k", spec={"image": "alpine", "command": ["true"]})

    assert refused.value.fields == ["image"]


async def test_a_key_can_be_used_again_once_it_has_expired(
    database: Database, make_job: JobFactory
) -> None:
    """Keys are kept for a day; tomorrow's run may carry yesterday's name."""
    first = await make_job(idempotency_key="k")
    async with database.transaction() as tx:
        await tx.execute("UPDATE idempotency_key SET expires_at = now()")

    second = await make_job(idempotency_key="k")

    assert second.id != first.id


async def test_a_request_too_large_to_keep_is_refused_in_words(make_job: JobFactory) -> None:
    """Nothing is half-written, and whoever asked learns what to do instead."""
    noise = [secrets.token_hex(16) for _ in range(60_000)]

    with pytest.raises(Invalid, match="larger than 1 MB"):
        await make_job(spec={"command": noise})


async def test_cancelling_a_queued_job_is_final_and_counted(
    database: Database, ada_id: str, make_job: JobFactory
) -> None:
    """Nothing was launched, so nothing is left to stop."""
    job = await make_job()

    async with database.transaction() as tx:
        changed = await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)
        status = await job_queries.get_job_status(tx, ada_id, job.id)
        counted = await tx.fetchval("SELECT queued FROM subject")

    assert changed
    assert status is not None
    assert (status.state, status.upstream) == (JobState.CANCELLED, UpstreamState.NONE)
    assert counted == 0


async def test_cancelling_twice_changes_nothing_the_second_time(
    database: Database, ada_id: str, make_job: JobFactory
) -> None:
    """A repeated cancel is the same answer, not a second event."""
    job = await make_job()
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)

    async with database.transaction() as tx:
        changed = await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)
        events = await tx.fetchval("SELECT count(*) FROM job_event")

    assert not changed
    assert events == 2


async def test_nobody_cancels_or_reads_anothers_job(
    database: Database, ada_id: str, make_job: JobFactory
) -> None:
    """A foreign handle is an unknown handle."""
    job = await make_job()

    async with database.transaction() as tx:
        assert not await lifecycle.cancel_job(tx, job.id, subject_id="f" * 24)
        assert await job_queries.get_job_status(tx, "f" * 24, job.id) is None
        assert await job_queries.get_job_status(tx, ada_id, uuid4()) is None
        status = await job_queries.get_job_status(tx, ada_id, job.id)

    assert status is not None
    assert status.state is JobState.QUEUED


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE job SET state = 'queued', finished_at = NULL, due_at = now(), version = version+1",
        "UPDATE job SET cancel_requested_at = now() + interval '1 s', version = version + 1",
        "UPDATE job SET title = 'other'",
        "UPDATE job SET attempt = attempt - 1, version = version + 1",
        "UPDATE job SET version = version + 2",
    ],
)
async def test_the_database_refuses_what_no_move_does(
    database: Database, ada_id: str, make_job: JobFactory, statement: str
) -> None:
    """A hand-typed UPDATE cannot bring a job back, undo a cancel or leave a gap in its history."""
    job = await make_job()
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)

    with pytest.raises(Exception, match=r"final|never taken back|raise its version|only grow"):
        async with database.transaction() as tx:
            await tx.execute(statement)


async def test_the_database_refuses_a_move_that_is_not_drawn(
    database: Database, make_job: JobFactory
) -> None:
    """A job runs only after it was launched, or nobody would know what runs."""
    await make_job()

    with pytest.raises(asyncpg.RaiseError, match="cannot move from queued to running"):
        async with database.transaction() as tx:
            await tx.execute("UPDATE job SET state = 'running', due_at = NULL, version = version+1")


async def test_the_same_id_again_is_the_same_job(database: Database, make_job: JobFactory) -> None:
    """Whoever never learned what became of a commit may repeat it."""
    first = await make_job()

    again = await make_job(job_id=first.id)

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 1
    assert again.id == first.id


async def test_a_hundred_submits_at_once_stay_within_the_limit(
    database: Database, make_job: JobFactory
) -> None:
    """Whoever asks in parallel must not get more than whoever asks one by one."""
    answers = await asyncio.gather(
        *(make_job(max_open_jobs=10) for _ in range(100)), return_exceptions=True
    )

    refusals = [answer for answer in answers if isinstance(answer, BaseException)]
    assert {type(refusal) for refusal in refusals} == {LimitReached}
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 10
        assert await tx.fetchval("SELECT queued FROM subject") == 10


async def test_a_job_over_the_limit_leaves_nothing_and_says_what_to_do(
    database: Database, make_job: JobFactory
) -> None:
    """Not even its key is held, or the same call could not succeed later."""
    await make_job(max_open_jobs=1)

    with pytest.raises(LimitReached, match=r"have 1 open job and may have 1 .*cancel_job") as over:
        await make_job(max_open_jobs=1, idempotency_key="k")

    assert over.value.limit_usage == LimitUsage("open jobs", limit=1, used=1)
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 1
        assert await tx.fetchval("SELECT count(*) FROM idempotency_key") == 0


async def test_a_job_that_is_over_makes_room_for_another(
    database: Database, ada_id: str, make_job: JobFactory
) -> None:
    """The limit is on what is open, not on what was ever launched."""
    first = await make_job(max_open_jobs=1)
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, first.id, subject_id=ada_id)

    assert (await make_job(max_open_jobs=1)).id != first.id


async def test_a_job_that_is_launched_is_still_open(
    make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Workers that are quick to claim must not lift the limit."""
    await make_job(max_open_jobs=1)
    await claim_jobs()

    with pytest.raises(LimitReached):
        await make_job(max_open_jobs=1)


async def test_a_job_that_exists_is_answered_whatever_the_limit(make_job: JobFactory) -> None:
    """A client that repeats itself after a lost answer learns its handle, however full it is."""
    first = await make_job(max_open_jobs=1, idempotency_key="k")

    by_key = await make_job(max_open_jobs=1, idempotency_key="k")
    by_id = await make_job(max_open_jobs=1, job_id=first.id, idempotency_key="k")

    assert {by_key.id, by_id.id} == {first.id}
    with pytest.raises(LimitReached):
        await make_job(max_open_jobs=1, idempotency_key="another")
