"""Uploads: their quota, their pins, and what is deleted when (`schema.artifacts.uploads`)."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from uuid import UUID

import asyncpg
import pytest

from schema.artifacts import uploads
from schema.artifacts.uploads import OtherSize, Receipt
from schema.common import ids
from schema.common.errors import LimitUsage, NotFound, TooManyUploads
from schema.db.database import Database, Transaction
from schema.jobs import lifecycle, run_launch
from schema.jobs.tables import Job
from tests.support.database.lock_waits import run_in_turn_at_lock
from tests.support.database.row_security import tenant_transaction
from tests.support.database.subject_statements import order_arguments, without_subject_comparison
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.subjects import ADA_ID, EVE_ID
from tests.support.uploads import NEW_UPLOAD, UPLOAD_LIMITS, create_upload, store_upload

LOCK_ADA = f"SELECT FROM subject WHERE id = '{ADA_ID}' FOR UPDATE"  # our name


async def read_states(database: Database) -> dict[UUID, str]:
    async with database.transaction() as tx:
        return {row["id"]: row["state"] for row in await tx.fetch("SELECT id, state FROM upload")}


async def expire_all(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute("UPDATE upload SET expires_at = now() - interval '1 second'")


async def delete_expired(database: Database) -> None:
    async with database.transaction() as tx:
        await uploads.delete_expired_uploads(tx, limit=10, clock_lead=timedelta(0))


async def count_chunks(database: Database) -> int:
    async with database.transaction() as tx:
        count: int = await tx.fetchval("SELECT count(*) FROM upload_chunk")
    return count


async def test_the_last_place_is_taken_once(database: Database, ada_id: str) -> None:
    """Two calls at a time would each see that there is room for one more."""
    limits, refusals = replace(UPLOAD_LIMITS, max_uploads=1), list[LimitUsage | None]()

    async def create(tx: Transaction) -> None:
        try:
            await create_upload(tx, ada_id, limits=limits)
        except TooManyUploads as error:
            refusals.append(error.limit_usage)

    await run_in_turn_at_lock(database, LOCK_ADA, create, create)

    assert refusals == [LimitUsage("uploads", 1, 1)]
    assert len(await read_states(database)) == 1


async def test_the_last_bytes_are_taken_once(database: Database, ada_id: str) -> None:
    """The room is taken when a request announces its size, before its first byte."""
    limits, refusals = replace(UPLOAD_LIMITS, max_total_bytes=10), list[LimitUsage | None]()
    async with database.transaction() as tx:
        first, second = await create_upload(tx, ada_id), await create_upload(tx, ada_id)

    async def begin(tx: Transaction, upload_id: UUID) -> None:
        try:
            await uploads.begin_receiving(tx, ada_id, upload_id, 6, limits)
        except TooManyUploads as error:
            refusals.append(error.limit_usage)

    await run_in_turn_at_lock(
        database,
        LOCK_ADA,
        partial(begin, upload_id=first.id),
        partial(begin, upload_id=second.id),
    )

    assert refusals == [LimitUsage("upload bytes", 10, 6)]


async def test_what_was_declared_counts_from_the_beginning(database: Database, ada_id: str) -> None:
    """A link that is not used yet may be used at any moment."""
    limits = replace(UPLOAD_LIMITS, max_total_bytes=10)
    async with database.transaction() as tx:
        upload = await create_upload(tx, ada_id, replace(NEW_UPLOAD, declared_bytes=8), limits)
        with pytest.raises(TooManyUploads, match="8 of 10 upload bytes"):
            await create_upload(tx, ada_id, replace(NEW_UPLOAD, declared_bytes=3), limits)
        with pytest.raises(OtherSize):
            await uploads.begin_receiving(tx, ada_id, upload.id, 7, limits)
        assert await uploads.begin_receiving(tx, ada_id, upload.id, 8, limits) is not None
        assert await uploads.read_usage(tx, ada_id) == uploads.UploadUsage(1, 8)


async def test_an_attempt_ends_when_a_later_one_begins(database: Database, ada_id: str) -> None:
    """Its chunks go, and it can neither write nor finish nor take away what the later one wrote."""
    async with database.transaction() as tx:
        upload = await create_upload(tx, ada_id)
        first = await uploads.begin_receiving(tx, ada_id, upload.id, 4, UPLOAD_LIMITS)
        assert first is not None
        assert await uploads.append_chunk(tx, first, 0, b"old!")
        second = await uploads.begin_receiving(tx, ada_id, upload.id, 3, UPLOAD_LIMITS)
        assert second is not None
        assert await uploads.append_chunk(tx, second, 0, b"new")

        assert not await uploads.append_chunk(tx, first, 1, b"more")
        assert not await finish(tx, first)
        await uploads.abandon_receiving(tx, first)
        assert await finish(tx, second)

    async with database.transaction() as tx:
        assert [row["content"] for row in await tx.fetch("SELECT content FROM upload_chunk")] == [
            b"new"
        ]


async def finish(tx: Transaction, receipt: Receipt) -> bool:
    ready = await uploads.finish_receiving(
        tx, receipt, sha256="0" * 64, media_type="text/plain", limits=UPLOAD_LIMITS
    )
    return ready is not None


async def test_a_file_of_which_bytes_are_missing_is_never_ready(
    database: Database, ada_id: str
) -> None:
    """Half of a file that looks whole is worse than none."""
    async with database.transaction() as tx:
        upload = await create_upload(tx, ada_id)
        receipt = await uploads.begin_receiving(tx, ada_id, upload.id, 4, UPLOAD_LIMITS)
        assert receipt is not None
        assert not await finish(tx, receipt)
        await uploads.append_chunk(tx, receipt, 0, b"123")
        assert not await finish(tx, receipt)
        await uploads.append_chunk(tx, receipt, 1, b"4")
        assert await finish(tx, receipt)
        assert not await finish(tx, receipt)
        assert await uploads.begin_receiving(tx, ada_id, upload.id, 4, UPLOAD_LIMITS) is None


async def test_what_has_expired_goes_with_its_bytes(database: Database, ada_id: str) -> None:
    """A file that nobody used is deleted, and so is one that was never sent whole."""
    async with database.transaction() as tx:
        await store_upload(tx, ada_id, b"sent")
        pending = await create_upload(tx, ada_id)
        receipt = await uploads.begin_receiving(tx, ada_id, pending.id, 4, UPLOAD_LIMITS)
        assert receipt is not None
        await uploads.append_chunk(tx, receipt, 0, b"1")
    await delete_expired(database)
    assert len(await read_states(database)) == 2

    await expire_all(database)
    await delete_expired(database)

    assert await read_states(database) == {}
    assert await count_chunks(database) == 0


async def test_an_upload_stays_until_the_jobs_that_read_it_have_ended(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """A job that waits for a week finds its file; a cancelled one may still be read by its run."""
    job = await make_job()
    async with database.transaction() as tx:
        upload = await store_upload(tx, ada_id, b"sent")
        await uploads.pin_uploads(tx, ada_id, job.id, [upload.id])
    await expire_all(database)

    await delete_expired(database)
    assert list(await read_states(database)) == [upload.id]
    (run,) = await claim_jobs()
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)
    await delete_expired(database)
    assert list(await read_states(database)) == [upload.id]
    async with database.transaction() as tx:
        await run_launch.mark_not_created(tx, run.run_id, reason=None, message="", worker="w")
    await delete_expired(database)

    assert await read_states(database) == {}


async def test_what_a_job_names_while_it_is_being_deleted_stays(
    database: Database, ada_id: str, make_job: JobFactory
) -> None:
    """The deletion waits for nobody: whoever pins a moment before it has their file."""
    job = await make_job()
    async with database.transaction() as tx:
        upload = await store_upload(tx, ada_id, b"sent")
    pinned_by_then = "UPDATE upload SET name = name"

    async def delete_unless_locked(tx: Transaction) -> None:
        # As `SKIP LOCKED` would not: it has read the row before the pin, and waits for it.
        statement: str = vars(uploads)["_DELETE_EXPIRED"].replace("SKIP LOCKED", "")
        await tx.execute(statement, 10, timedelta(minutes=-30))

    async with database.transaction() as tx:
        await tx.execute("UPDATE upload SET expires_at = now() + interval '1 minute'")

    async def pin(tx: Transaction) -> None:
        await uploads.pin_uploads(tx, ada_id, job.id, [upload.id])

    await run_in_turn_at_lock(database, pinned_by_then, pin, delete_unless_locked)

    assert list(await read_states(database)) == [upload.id]


async def test_what_is_named_has_to_be_there_and_ready(
    database: Database, ada_id: str, make_job: JobFactory
) -> None:
    """A foreign, an expired, a pending and an unknown upload are the same: none."""
    job = await make_job()
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'eve')", EVE_ID)
        good = await store_upload(tx, ada_id, b"sent")
        foreign = await store_upload(tx, EVE_ID, b"sent")
        expired = await store_upload(tx, ada_id, b"sent")
        pending = await create_upload(tx, ada_id)
        await tx.execute("UPDATE upload SET expires_at = now() WHERE id = $1", expired.id)

    for bad in (foreign.id, expired.id, pending.id, ids.new_id()):
        handle = ids.format_handle(ids.HandleKind.UPLOAD, bad)
        async with database.transaction() as tx:
            with pytest.raises(NotFound, match=f"There is no upload {handle}"):
                await uploads.find_uploads(tx, ada_id, [good.id, bad])
            with pytest.raises(NotFound, match=f"There is no upload {handle}"):
                await uploads.pin_uploads(tx, ada_id, job.id, [good.id, bad])
    async with database.transaction() as tx:
        assert await uploads.find_uploads(tx, ada_id, [good.id, good.id]) == [good]
        assert await uploads.find_pinned_upload(tx, job.id, foreign.id) is None


CARELESS_WRITES = {
    "_APPEND_CHUNK": {"position": 1, "content": b"x"},
    "_FINISH_RECEIVING": {
        "sha256": "0" * 64,
        "media_type": "text/plain",
        "retention": timedelta(days=1),
    },
    "_BEGIN_RECEIVING": {
        "size_bytes": 1,
        "timeout": timedelta(days=1),
        "max_total_bytes": 10**9,
    },
}


@pytest.mark.parametrize("name", [*CARELESS_WRITES, "_ABANDON_RECEIVING"])
async def test_a_write_that_forgets_whose_writes_nothing_of_anybody_elses(
    database: Database, database_url: str, ada_id: str, name: str
) -> None:
    """Row-level security stands behind each comparison."""
    async with database.transaction() as tx:
        upload = await create_upload(tx, ada_id)
        receipt = await uploads.begin_receiving(tx, ada_id, upload.id, 1, UPLOAD_LIMITS)
        assert receipt is not None
        await uploads.append_chunk(tx, receipt, 0, b"1")
    statement = f"artifacts.uploads.{name}"
    names = {"subject_id": EVE_ID, "upload_id": upload.id, "attempt": receipt.attempt}
    arguments = (
        [upload.id, EVE_ID, receipt.attempt]
        if name == "_ABANDON_RECEIVING"
        else order_arguments(statement, {**names, **CARELESS_WRITES[name]})
    )
    careless = without_subject_comparison(statement)
    before = await read_everything(database)

    for subject in (EVE_ID, None):
        async with tenant_transaction(database_url, subject) as tx:
            await tx.fetch(careless, *arguments)
    assert await read_everything(database) == before

    async with database.transaction() as tx:
        await tx.fetch(careless, *arguments)
    assert await read_everything(database) != before or name == "_BEGIN_RECEIVING"


async def read_everything(database: Database) -> list[str]:
    async with database.transaction() as tx:
        return [
            row["text"]
            for table in ("upload", "upload_chunk", "job_upload")
            for row in await tx.fetch(f"SELECT it::text AS text FROM {table} AS it ORDER BY 1")  # noqa: S608
        ]


async def test_nothing_is_uploaded_or_pinned_in_somebody_elses_name(
    database: Database, database_url: str, ada_id: str, make_job: JobFactory
) -> None:
    """What Eve sends is not Ada's, and what is Ada's is in no job of Eve's."""
    job: Job = await make_job()
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ($1, 'eve')", EVE_ID)
        upload = await store_upload(tx, ada_id, b"sent")
    foreign_insert = (
        "INSERT INTO upload (id, subject_id, name, location, link_expires_at, expires_at) "
        "VALUES ($1, $2, 'x', 'x/x', now(), now())"
    )

    for statement, arguments in (
        (foreign_insert, [ids.new_id(), ADA_ID]),
        (
            "INSERT INTO upload_chunk VALUES ($1, $2, 9, $3, '1')",
            [upload.id, upload.attempt, ADA_ID],
        ),
        ("INSERT INTO job_upload VALUES ($1, $2, $3)", [job.id, upload.id, ADA_ID]),
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            async with tenant_transaction(database_url, EVE_ID) as tx:
                await tx.execute(statement, *arguments)
    careless_pin = order_arguments(
        "artifacts.uploads._PIN_UPLOADS",
        {
            "subject_id": EVE_ID,
            "job_id": job.id,
            "upload_ids": [upload.id],
            "margin": timedelta(0),
        },
    )
    async with tenant_transaction(database_url, EVE_ID) as tx:
        pin = without_subject_comparison("artifacts.uploads._PIN_UPLOADS")
        assert await tx.fetch(pin, *careless_pin) == []
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        async with tenant_transaction(database_url, EVE_ID) as tx:
            await tx.execute(
                "INSERT INTO job_upload VALUES ($1, $2, $3)", job.id, upload.id, EVE_ID
            )
