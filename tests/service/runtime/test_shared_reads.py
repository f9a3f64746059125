"""Requests that want the same at the same time read it once, and none gets what is out of date."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import pytest

from schema.accounts.row_security import DatabaseRole
from schema.db.database import Database, Transaction
from schema.jobs import lifecycle
from service.runtime.shared_reads import SharedReads
from tests.support.database.statement_counter import CountingTenantDatabase
from tests.support.factories import JobFactory
from tests.support.subjects import ADA_ID, BOB_ID

OpenTransaction = Callable[[], AbstractAsyncContextManager[Transaction]]


@pytest.fixture
async def tenant_database(database_url: str) -> AsyncGenerator[CountingTenantDatabase]:
    """The database as the service has it."""
    async with Database(
        database_url, application_name="tests", role=DatabaseRole.TENANT
    ) as database:
        yield CountingTenantDatabase(database)


def open_as(database: CountingTenantDatabase, subject_id: str) -> OpenTransaction:
    @asynccontextmanager
    async def open_transaction() -> AsyncGenerator[Transaction]:
        async with database.as_subject(subject_id) as (tx, _):
            yield tx

    return open_transaction


async def read_states(tx: Transaction) -> list[str]:
    return [row["state"] for row in await tx.fetch("SELECT state FROM job ORDER BY id")]


async def read_all(
    database: CountingTenantDatabase, readers: list[tuple[str, str]]
) -> list[list[str]]:
    """Let each of the readers, a subject with a key, read at the same time."""
    reads, answers = SharedReads(), list[list[str]]()

    async def read(subject_id: str, key: str) -> None:
        open_transaction = open_as(database, subject_id)
        answers.append(await reads.read(subject_id, key, open_transaction, read_states))

    async with anyio.create_task_group() as tasks:
        for subject_id, key in readers:
            tasks.start_soon(read, subject_id, key)
    return answers


async def test_those_who_want_the_same_read_it_in_one_transaction(
    tenant_database: CountingTenantDatabase, make_job: JobFactory
) -> None:
    await make_job()

    answers = await read_all(tenant_database, [(ADA_ID, "jobs")] * 20)

    assert answers == [["queued"]] * 20
    assert tenant_database.transaction_count == 1


async def test_nothing_is_shared_between_two_subjects_or_two_questions(
    tenant_database: CountingTenantDatabase, make_job: JobFactory
) -> None:
    """Under one key, Bob would be shown a job of Ada's."""
    await make_job()

    answers = await read_all(
        tenant_database, [(ADA_ID, "jobs"), (BOB_ID, "jobs"), (ADA_ID, "other jobs")]
    )

    assert sorted(answers) == [[], ["queued"], ["queued"]]
    assert tenant_database.transaction_count == 3


async def test_whoever_comes_after_a_read_has_begun_is_shown_what_changed_since(
    database: Database, tenant_database: CountingTenantDatabase, make_job: JobFactory
) -> None:
    """A change wakes them, and the read under way may be of the time before it."""
    job = await make_job()
    reads, open_transaction = SharedReads(), open_as(tenant_database, ADA_ID)
    has_read, may_end = anyio.Event(), anyio.Event()
    answers: list[list[str]] = []

    async def read_slowly(tx: Transaction) -> list[str]:
        states = await read_states(tx)
        has_read.set()
        await may_end.wait()
        return states

    async def read_before() -> None:
        answers.append(await reads.read(ADA_ID, "jobs", open_transaction, read_slowly))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read_before)
        await has_read.wait()
        async with database.transaction() as tx:
            await lifecycle.cancel_job(tx, job.id, subject_id=ADA_ID)
        try:
            async with asyncio.timeout(20):
                answers.append(await reads.read(ADA_ID, "jobs", open_transaction, read_states))
        finally:
            may_end.set()

    assert answers == [["cancelled"], ["queued"]]


async def test_who_reads_for_all_may_be_cancelled(
    tenant_database: CountingTenantDatabase, make_job: JobFactory
) -> None:
    """Their client went away; the other clients did not."""
    await make_job()
    reads, answers = SharedReads(), list[list[str]]()
    first_scope = anyio.CancelScope()

    async def read() -> None:
        open_transaction = open_as(tenant_database, ADA_ID)
        answers.append(await reads.read(ADA_ID, "jobs", open_transaction, read_states))

    async def read_until_cancelled() -> None:
        with first_scope:
            await read()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read_until_cancelled)
        tasks.start_soon(read)
        tasks.start_soon(read)
        tasks.start_soon(_cancel, first_scope)

    assert answers == [["queued"]] * 2


async def test_an_error_is_the_error_of_all(tenant_database: CountingTenantDatabase) -> None:
    """Each of them would wait for the same database again, one after the other."""
    reads, errors = SharedReads(), list[str]()

    async def fail(_: Transaction) -> None:
        raise LookupError("no such job")

    async def read() -> None:
        try:
            await reads.read(ADA_ID, "jobs", open_as(tenant_database, ADA_ID), fail)
        except LookupError as error:
            errors.append(str(error))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(read)

    assert errors == ["no such job"] * 5
    assert tenant_database.transaction_count == 1


async def _cancel(scope: anyio.CancelScope) -> None:
    scope.cancel()
