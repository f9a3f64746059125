"""Whoever waits hears of every change, by a hint or by looking; and looking is cheap."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from uuid import UUID

import anyio
import pytest

from schema.accounts import credentials
from schema.accounts.row_security import DatabaseRole
from schema.accounts.tables import Hold
from schema.common import ids
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.changes import JobVersion
from schema.messaging import change_notifications
from service.runtime.job_watch import JobWatcher, JobWatchRegistry, open_job_watch
from tests.support.database.statement_counter import CountingTenantDatabase
from tests.support.factories import JobFactory
from tests.support.polling import eventually
from tests.support.subjects import ADA_ID, EVE_ID

FIRST_VERSION = JobVersion(1, None)
TIMEOUT_SECONDS = 10


@pytest.fixture
async def tenant_database(database_url: str) -> AsyncGenerator[CountingTenantDatabase]:
    """The database as the service has it."""
    async with Database(
        database_url, application_name="tests", role=DatabaseRole.TENANT
    ) as database:
        yield CountingTenantDatabase(database)


@pytest.fixture
def watch_registry(tenant_database: CountingTenantDatabase) -> JobWatchRegistry:
    """Waiters whom nobody looks for, and nobody tells."""
    return JobWatchRegistry(tenant_database)


async def wait_for_change(changes: JobWatcher) -> frozenset[UUID]:
    with anyio.fail_after(TIMEOUT_SECONDS):
        return await changes.wait_for_change()


def is_quiet(changes: JobWatcher) -> bool:
    """Say whether the waiter would wait on."""
    return not changes.changed_versions


async def test_a_hint_alone_wakes_who_waits(
    database_url: str, valkey_url: str, watch_registry: JobWatchRegistry, make_job: JobFactory
) -> None:
    """From the commit of a move to the waiter, with nobody looking."""
    job, other = (await make_job()).id, (await make_job()).id
    async with anyio.create_task_group() as listening:
        listening.start_soon(
            change_notifications.listen_for_changes, valkey_url, watch_registry.notify_changed
        )
        async with (
            change_notifications.open_change_publisher(valkey_url) as sender,
            Database(
                database_url, application_name="tests", on_job_changes=sender.enqueue
            ) as database,
        ):
            with watch_registry.watch(ADA_ID, [job, other]) as changes:
                changes.set_seen({job: FIRST_VERSION, other: FIRST_VERSION})
                async with database.transaction() as tx:
                    await lifecycle.cancel_job(tx, job, subject_id=ADA_ID)
                # Told again until somebody listens, as there is no sweep here to repair the loss.
                with anyio.fail_after(TIMEOUT_SECONDS):
                    while is_quiet(changes):
                        sender.enqueue({job: 2})
                        await anyio.sleep(0.05)  # before it is told again
                assert await wait_for_change(changes) == {job}
        listening.cancel_scope.cancel()


async def test_looking_alone_wakes_who_waits(
    watch_registry: JobWatchRegistry, make_job: JobFactory, database: Database
) -> None:
    """Redis may burn, and the waiter hears of it by the next look."""
    job, other = (await make_job()).id, (await make_job()).id
    with watch_registry.watch(ADA_ID, [job, other]) as changes:
        changes.set_seen({job: FIRST_VERSION, other: FIRST_VERSION})
        await watch_registry.poll()
        assert is_quiet(changes)
        async with database.transaction() as tx:
            await lifecycle.cancel_job(tx, job, subject_id=ADA_ID)

        await watch_registry.poll()

        assert await wait_for_change(changes) == {job}


async def test_without_a_valkey_waiters_are_looked_for_by_themselves(
    tenant_database: CountingTenantDatabase, make_job: JobFactory, database: Database
) -> None:
    """As the service opens it."""
    job = (await make_job()).id
    async with open_job_watch("redis://127.0.0.1:1/0", tenant_database) as waiters:
        with waiters.watch(ADA_ID, [job]) as changes:
            changes.set_seen({job: FIRST_VERSION})
            async with database.transaction() as tx:
                await lifecycle.cancel_job(tx, job, subject_id=ADA_ID)

            assert await wait_for_change(changes) == {job}


async def test_two_hundred_waiters_on_fifty_jobs_are_one_statement(
    watch_registry: JobWatchRegistry, tenant_database: CountingTenantDatabase, make_job: JobFactory
) -> None:
    """And what a look costs does not grow with who waits for the same."""
    jobs = [(await make_job()).id for _ in range(50)]
    async with anyio.create_task_group() as waiting_on:

        async def wait(job_id: UUID) -> None:
            with watch_registry.watch(ADA_ID, [job_id]) as changes:
                changes.set_seen({job_id: FIRST_VERSION})
                await changes.wait_for_change()

        for number in range(200):
            waiting_on.start_soon(wait, jobs[number % 50])
        await anyio.wait_all_tasks_blocked()
        assert watch_registry.watcher_count == 200
        before = tenant_database.transaction_count

        await watch_registry.poll()

        assert tenant_database.transaction_count == before + 1
        waiting_on.cancel_scope.cancel()
    assert watch_registry.watcher_count == 0


async def test_nothing_is_read_while_nobody_waits(
    tenant_database: CountingTenantDatabase, make_job: JobFactory
) -> None:
    """An idle service costs the database nothing."""
    job = (await make_job()).id
    waiters = JobWatchRegistry(tenant_database)

    async def made() -> int:
        return tenant_database.transaction_count

    async with anyio.create_task_group() as looking:
        looking.start_soon(waiters.poll_forever, timedelta(milliseconds=1))
        with waiters.watch(ADA_ID, [job]) as changes:
            changes.set_seen({job: FIRST_VERSION})
            await eventually(made, lambda transactions: transactions > 3)
        # A look that was under way comes to its end; then there is no other.
        await anyio.sleep(0.1)  # a hundred times as long as a look takes
        before = tenant_database.transaction_count
        await anyio.sleep(0.1)  # the time in which nothing is to happen
        assert tenant_database.transaction_count == before
        looking.cancel_scope.cancel()


async def test_what_happens_between_reading_and_waiting_is_heard(
    watch_registry: JobWatchRegistry,
) -> None:
    """Who enters before they read cannot miss what they did not read."""
    job = ids.new_id()
    with watch_registry.watch(ADA_ID, [job]) as changes:
        watch_registry.notify_changed({job: 2})
        changes.set_seen({job: FIRST_VERSION})

        assert await wait_for_change(changes) == {job}


async def test_what_was_read_is_not_told_once_more(watch_registry: JobWatchRegistry) -> None:
    """A hint that comes after the reading it is about would wake for nothing."""
    job = ids.new_id()
    with watch_registry.watch(ADA_ID, [job]) as changes:
        watch_registry.notify_changed({job: 2})
        changes.set_seen({job: JobVersion(2, None)})
        watch_registry.notify_changed({job: 2})
        watch_registry.notify_changed({job: 1})
        assert is_quiet(changes)
        watch_registry.notify_changed({job: 3})

        assert await wait_for_change(changes) == {job}


async def test_what_is_not_waited_for_any_more_wakes_nobody(
    watch_registry: JobWatchRegistry,
) -> None:
    """Of fifty jobs the finished ones are left out, and foreign ones after the first reading."""
    job, other = ids.new_id(), ids.new_id()
    with watch_registry.watch(ADA_ID, [job, other]) as changes:
        watch_registry.notify_changed({other: 5})
        changes.set_seen({job: FIRST_VERSION})
        watch_registry.notify_changed({other: 6})

        assert is_quiet(changes)


async def test_a_hold_and_a_job_that_is_gone_are_heard_of_by_looking(
    watch_registry: JobWatchRegistry, make_job: JobFactory, database: Database
) -> None:
    """Neither is a move of the job."""
    job, gone = (await make_job()).id, ids.new_id()
    with watch_registry.watch(ADA_ID, [job, gone]) as changes:
        changes.set_seen({job: FIRST_VERSION, gone: FIRST_VERSION})
        await watch_registry.poll()
        assert await wait_for_change(changes) == {gone}
        changes.set_seen({job: FIRST_VERSION})
        async with database.transaction() as tx:
            await credentials.mark_credential_refused(tx, ADA_ID, version=1)

        await watch_registry.poll()

        assert await wait_for_change(changes) == {job}
        changes.set_seen({job: JobVersion(1, Hold.CREDENTIALS)})
        await watch_registry.poll()
        assert is_quiet(changes)


async def test_who_waits_for_a_foreign_job_hears_as_much_as_for_none(
    watch_registry: JobWatchRegistry, make_job: JobFactory
) -> None:
    """The marks are read as whoever waits."""
    for job in ((await make_job()).id, ids.new_id()):
        with watch_registry.watch(EVE_ID, [job]) as changes:
            changes.set_seen({job: FIRST_VERSION})
            await watch_registry.poll()
            assert await wait_for_change(changes) == {job}, "it is gone, for all they know"


async def test_a_stop_lets_everybody_go_and_nobody_wait_again(
    watch_registry: JobWatchRegistry,
) -> None:
    """A rolling deploy does not hold its clients up, or cut them off."""
    job = ids.new_id()
    with watch_registry.watch(ADA_ID, [job]) as changes:
        changes.set_seen({job: FIRST_VERSION})
        watch_registry.stop()
        assert await wait_for_change(changes) == frozenset()
        changes.set_seen({job: FIRST_VERSION})
        assert await wait_for_change(changes) == frozenset()
    with watch_registry.watch(ADA_ID, [job]) as changes:
        changes.set_seen({job: FIRST_VERSION})
        assert await wait_for_change(changes) == frozenset()
