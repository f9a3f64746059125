"""A watcher notices every change, by a notification or by a poll; and polls are cheap."""

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
from schema.jobs.monitoring.changes import JobVersion
from schema.messaging import change_notifications
from service.runtime.watch import JobWatcher, Watch, open_watch
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
def watch(tenant_database: CountingTenantDatabase) -> Watch:
    """A registry without polls and without notifications."""
    return Watch(tenant_database)


async def wait_for_change(watcher: JobWatcher) -> frozenset[UUID]:
    with anyio.fail_after(TIMEOUT_SECONDS):
        return await watcher.wait_for_change()


def is_quiet(watcher: JobWatcher) -> bool:
    """Say whether the watcher would go on waiting."""
    return not watcher.changed_versions


async def test_a_notification_alone_wakes_a_watcher(
    database_url: str, valkey_url: str, watch: Watch, make_job: JobFactory
) -> None:
    """From the commit of a transition to the watcher, without a poll."""
    job, other = (await make_job()).id, (await make_job()).id
    async with anyio.create_task_group() as listener:
        listener.start_soon(
            change_notifications.listen_for_changes, valkey_url, watch.notify_changed
        )
        async with (
            change_notifications.open_change_publisher(valkey_url) as sender,
            Database(
                database_url, application_name="tests", on_job_changes=sender.enqueue
            ) as database,
        ):
            with watch.watch_jobs(ADA_ID, [job, other]) as watcher:
                watcher.set_seen({job: FIRST_VERSION, other: FIRST_VERSION})
                async with database.transaction() as tx:
                    await lifecycle.cancel_job(tx, job, subject_id=ADA_ID)
                # Sent again until the listener is there, as no sweep repairs the loss here.
                with anyio.fail_after(TIMEOUT_SECONDS):
                    while is_quiet(watcher):
                        sender.enqueue({job: 2})
                        await anyio.sleep(0.05)  # before it is sent again
                assert await wait_for_change(watcher) == {job}
        listener.cancel_scope.cancel()


async def test_a_poll_alone_wakes_a_watcher(
    watch: Watch, make_job: JobFactory, database: Database
) -> None:
    """Without Redis the next poll notices the change."""
    job, other = (await make_job()).id, (await make_job()).id
    with watch.watch_jobs(ADA_ID, [job, other]) as watcher:
        watcher.set_seen({job: FIRST_VERSION, other: FIRST_VERSION})
        await watch.jobs.poll()
        assert is_quiet(watcher)
        async with database.transaction() as tx:
            await lifecycle.cancel_job(tx, job, subject_id=ADA_ID)

        await watch.jobs.poll()

        assert await wait_for_change(watcher) == {job}


async def test_without_a_valkey_watchers_are_still_polled_for(
    tenant_database: CountingTenantDatabase, make_job: JobFactory, database: Database
) -> None:
    """As the service opens it."""
    job = (await make_job()).id
    async with open_watch("redis://127.0.0.1:1/0", tenant_database) as watch:
        with watch.watch_jobs(ADA_ID, [job]) as watcher:
            watcher.set_seen({job: FIRST_VERSION})
            async with database.transaction() as tx:
                await lifecycle.cancel_job(tx, job, subject_id=ADA_ID)

            assert await wait_for_change(watcher) == {job}


async def test_two_hundred_watchers_of_fifty_jobs_are_one_statement(
    watch: Watch, tenant_database: CountingTenantDatabase, make_job: JobFactory
) -> None:
    """The cost of a poll does not grow with the number of watchers of one job."""
    jobs = [(await make_job()).id for _ in range(50)]
    async with anyio.create_task_group() as waiting:

        async def wait(job_id: UUID) -> None:
            with watch.watch_jobs(ADA_ID, [job_id]) as watcher:
                watcher.set_seen({job_id: FIRST_VERSION})
                await watcher.wait_for_change()

        for number in range(200):
            waiting.start_soon(wait, jobs[number % 50])
        await anyio.wait_all_tasks_blocked()
        assert len(watch.jobs.watchers) == 200
        before = tenant_database.transaction_count

        await watch.jobs.poll()

        assert tenant_database.transaction_count == before + 1
        waiting.cancel_scope.cancel()
    assert len(watch.jobs.watchers) == 0


async def test_nothing_is_read_while_nobody_watches(
    tenant_database: CountingTenantDatabase, make_job: JobFactory
) -> None:
    """An idle service costs the database nothing."""
    job = (await make_job()).id
    watch = Watch(tenant_database)

    async def read_transaction_count() -> int:
        return tenant_database.transaction_count

    async with anyio.create_task_group() as polling:
        polling.start_soon(watch.jobs.poll_forever, timedelta(milliseconds=1))
        with watch.watch_jobs(ADA_ID, [job]) as watcher:
            watcher.set_seen({job: FIRST_VERSION})
            await eventually(read_transaction_count, lambda transactions: transactions > 3)
        # A poll that was under way ends; then there is no other.
        await anyio.sleep(0.1)  # a hundred times as long as a poll takes
        before = tenant_database.transaction_count
        await anyio.sleep(0.1)  # the time in which nothing is to happen
        assert tenant_database.transaction_count == before
        polling.cancel_scope.cancel()


async def test_a_change_between_reading_and_waiting_is_noticed(
    watch: Watch,
) -> None:
    """Whoever watches before they read cannot miss a later change."""
    job = ids.new_id()
    with watch.watch_jobs(ADA_ID, [job]) as watcher:
        watch.notify_changed({job: 2})
        watcher.set_seen({job: FIRST_VERSION})

        assert await wait_for_change(watcher) == {job}


async def test_a_version_that_was_read_wakes_nobody(watch: Watch) -> None:
    """A notification of what was already read would wake for nothing."""
    job = ids.new_id()
    with watch.watch_jobs(ADA_ID, [job]) as watcher:
        watch.notify_changed({job: 2})
        watcher.set_seen({job: JobVersion(2, None)})
        watch.notify_changed({job: 2})
        watch.notify_changed({job: 1})
        assert is_quiet(watcher)
        watch.notify_changed({job: 3})

        assert await wait_for_change(watcher) == {job}


async def test_a_job_that_is_no_longer_watched_wakes_nobody(
    watch: Watch,
) -> None:
    """Of fifty jobs the finished ones are left out, and foreign ones after the first reading."""
    job, other = ids.new_id(), ids.new_id()
    with watch.watch_jobs(ADA_ID, [job, other]) as watcher:
        watch.notify_changed({other: 5})
        watcher.set_seen({job: FIRST_VERSION})
        watch.notify_changed({other: 6})

        assert is_quiet(watcher)


async def test_a_poll_notices_a_hold_and_a_job_that_is_gone(
    watch: Watch, make_job: JobFactory, database: Database
) -> None:
    """Neither is a transition of the job."""
    job, gone = (await make_job()).id, ids.new_id()
    with watch.watch_jobs(ADA_ID, [job, gone]) as watcher:
        watcher.set_seen({job: FIRST_VERSION, gone: FIRST_VERSION})
        await watch.jobs.poll()
        assert await wait_for_change(watcher) == {gone}
        watcher.set_seen({job: FIRST_VERSION})
        async with database.transaction() as tx:
            await credentials.mark_credential_refused(tx, ADA_ID, version=1)

        await watch.jobs.poll()

        assert await wait_for_change(watcher) == {job}
        watcher.set_seen({job: JobVersion(1, Hold.CREDENTIALS)})
        await watch.jobs.poll()
        assert is_quiet(watcher)


async def test_a_foreign_job_looks_like_one_that_does_not_exist(
    watch: Watch, make_job: JobFactory
) -> None:
    """The versions are read as the subject who waits."""
    for job in ((await make_job()).id, ids.new_id()):
        with watch.watch_jobs(EVE_ID, [job]) as watcher:
            watcher.set_seen({job: FIRST_VERSION})
            await watch.jobs.poll()
            assert await wait_for_change(watcher) == {job}, "it is gone, for all they know"


async def test_stop_ends_every_wait_and_all_later_ones(
    watch: Watch,
) -> None:
    """A rolling deploy does not hold its clients up, or cut them off."""
    job = ids.new_id()
    with watch.watch_jobs(ADA_ID, [job]) as watcher:
        watcher.set_seen({job: FIRST_VERSION})
        watch.stop()
        assert await wait_for_change(watcher) == frozenset()
        watcher.set_seen({job: FIRST_VERSION})
        assert await wait_for_change(watcher) == frozenset()
    with watch.watch_jobs(ADA_ID, [job]) as watcher:
        watcher.set_seen({job: FIRST_VERSION})
        assert await wait_for_change(watcher) == frozenset()
