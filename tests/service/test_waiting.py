"""Whoever waits hears of every change, by a hint or by looking; and looking is cheap."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from uuid import UUID

import anyio
import pytest

from schema.accounts import credentials
from schema.accounts.row_security import Role
from schema.accounts.tables import Hold
from schema.common import ids
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.changes import Mark
from schema.messaging import change_notifications
from service.runtime.job_watch import Changes, Waiting, waiting
from tests.conftest import ADA, JobFactory
from tests.schema.wall import EVE
from tests.service.counting import Counting
from tests.stack import eventually

AS_IT_IS = Mark(1, None)
SOON = 10


@pytest.fixture
async def ground(database_url: str) -> AsyncGenerator[Counting]:
    """The database as the service has it."""
    async with Database(database_url, application="tests", role=Role.TENANT) as database:
        yield Counting(database)


@pytest.fixture
def waiters(ground: Counting) -> Waiting:
    """Waiters whom nobody looks for, and nobody tells."""
    return Waiting(ground)


async def heard(changes: Changes) -> frozenset[UUID]:
    with anyio.fail_after(SOON):
        return await changes.next()


def quiet(changes: Changes) -> bool:
    """Say whether the waiter would wait on."""
    return not changes.told


async def test_a_hint_alone_wakes_who_waits(
    database_url: str, valkey_url: str, waiters: Waiting, make_job: JobFactory
) -> None:
    """From the commit of a move to the waiter, with nobody looking."""
    job, other = (await make_job()).id, (await make_job()).id
    async with anyio.create_task_group() as listening:
        listening.start_soon(change_notifications.listen, valkey_url, waiters.hear)
        async with (
            change_notifications.hints(valkey_url) as sender,
            Database(database_url, application="tests", tell=sender.tell) as database,
        ):
            with waiters.on(ADA, [job, other]) as changes:
                changes.saw({job: AS_IT_IS, other: AS_IT_IS})
                async with database.transaction() as tx:
                    await lifecycle.cancel(tx, job, subject_id=ADA)
                # Told again until somebody listens, as there is no sweep here to repair the loss.
                with anyio.fail_after(SOON):
                    while quiet(changes):
                        sender.tell({job: 2})
                        await anyio.sleep(0.05)  # before it is told again
                assert await heard(changes) == {job}
        listening.cancel_scope.cancel()


async def test_looking_alone_wakes_who_waits(
    waiters: Waiting, make_job: JobFactory, database: Database
) -> None:
    """Redis may burn, and the waiter hears of it by the next look."""
    job, other = (await make_job()).id, (await make_job()).id
    with waiters.on(ADA, [job, other]) as changes:
        changes.saw({job: AS_IT_IS, other: AS_IT_IS})
        await waiters.look()
        assert quiet(changes)
        async with database.transaction() as tx:
            await lifecycle.cancel(tx, job, subject_id=ADA)

        await waiters.look()

        assert await heard(changes) == {job}


async def test_without_a_valkey_waiters_are_looked_for_by_themselves(
    ground: Counting, make_job: JobFactory, database: Database
) -> None:
    """As the service opens it."""
    job = (await make_job()).id
    async with waiting("redis://127.0.0.1:1/0", ground) as waiters:
        with waiters.on(ADA, [job]) as changes:
            changes.saw({job: AS_IT_IS})
            async with database.transaction() as tx:
                await lifecycle.cancel(tx, job, subject_id=ADA)

            assert await heard(changes) == {job}


async def test_two_hundred_waiters_on_fifty_jobs_are_one_statement(
    waiters: Waiting, ground: Counting, make_job: JobFactory
) -> None:
    """And what a look costs does not grow with who waits for the same."""
    jobs = [(await make_job()).id for _ in range(50)]
    async with anyio.create_task_group() as waiting_on:

        async def wait(job_id: UUID) -> None:
            with waiters.on(ADA, [job_id]) as changes:
                changes.saw({job_id: AS_IT_IS})
                await changes.next()

        for number in range(200):
            waiting_on.start_soon(wait, jobs[number % 50])
        await anyio.wait_all_tasks_blocked()
        assert waiters.waiters == 200
        before = ground.transactions

        await waiters.look()

        assert ground.transactions == before + 1
        waiting_on.cancel_scope.cancel()
    assert waiters.waiters == 0


async def test_nothing_is_read_while_nobody_waits(ground: Counting, make_job: JobFactory) -> None:
    """An idle service costs the database nothing."""
    job = (await make_job()).id
    waiters = Waiting(ground)

    async def made() -> int:
        return ground.transactions

    async with anyio.create_task_group() as looking:
        looking.start_soon(waiters.look_for_ever, timedelta(milliseconds=1))
        with waiters.on(ADA, [job]) as changes:
            changes.saw({job: AS_IT_IS})
            await eventually(made, lambda transactions: transactions > 3)
        # A look that was under way comes to its end; then there is no other.
        await anyio.sleep(0.1)  # a hundred times as long as a look takes
        before = ground.transactions
        await anyio.sleep(0.1)  # the time in which nothing is to happen
        assert ground.transactions == before
        looking.cancel_scope.cancel()


async def test_what_happens_between_reading_and_waiting_is_heard(waiters: Waiting) -> None:
    """Who enters before they read cannot miss what they did not read."""
    job = ids.new_id()
    with waiters.on(ADA, [job]) as changes:
        waiters.hear({job: 2})
        changes.saw({job: AS_IT_IS})

        assert await heard(changes) == {job}


async def test_what_was_read_is_not_told_once_more(waiters: Waiting) -> None:
    """A hint that comes after the reading it is about would wake for nothing."""
    job = ids.new_id()
    with waiters.on(ADA, [job]) as changes:
        waiters.hear({job: 2})
        changes.saw({job: Mark(2, None)})
        waiters.hear({job: 2})
        waiters.hear({job: 1})
        assert quiet(changes)
        waiters.hear({job: 3})

        assert await heard(changes) == {job}


async def test_what_is_not_waited_for_any_more_wakes_nobody(waiters: Waiting) -> None:
    """Of fifty jobs the finished ones are left out, and foreign ones after the first reading."""
    job, other = ids.new_id(), ids.new_id()
    with waiters.on(ADA, [job, other]) as changes:
        waiters.hear({other: 5})
        changes.saw({job: AS_IT_IS})
        waiters.hear({other: 6})

        assert quiet(changes)


async def test_a_hold_and_a_job_that_is_gone_are_heard_of_by_looking(
    waiters: Waiting, make_job: JobFactory, database: Database
) -> None:
    """Neither is a move of the job."""
    job, gone = (await make_job()).id, ids.new_id()
    with waiters.on(ADA, [job, gone]) as changes:
        changes.saw({job: AS_IT_IS, gone: AS_IT_IS})
        await waiters.look()
        assert await heard(changes) == {gone}
        changes.saw({job: AS_IT_IS})
        async with database.transaction() as tx:
            await credentials.refused(tx, ADA, version=1)

        await waiters.look()

        assert await heard(changes) == {job}
        changes.saw({job: Mark(1, Hold.CREDENTIALS)})
        await waiters.look()
        assert quiet(changes)


async def test_who_waits_for_a_foreign_job_hears_as_much_as_for_none(
    waiters: Waiting, make_job: JobFactory
) -> None:
    """The marks are read as whoever waits."""
    for job in ((await make_job()).id, ids.new_id()):
        with waiters.on(EVE, [job]) as changes:
            changes.saw({job: AS_IT_IS})
            await waiters.look()
            assert await heard(changes) == {job}, "it is gone, for all they know"


async def test_a_stop_lets_everybody_go_and_nobody_wait_again(waiters: Waiting) -> None:
    """A rolling deploy does not hold its clients up, or cut them off."""
    job = ids.new_id()
    with waiters.on(ADA, [job]) as changes:
        changes.saw({job: AS_IT_IS})
        waiters.stop()
        assert await heard(changes) == frozenset()
        changes.saw({job: AS_IT_IS})
        assert await heard(changes) == frozenset()
    with waiters.on(ADA, [job]) as changes:
        changes.saw({job: AS_IT_IS})
        assert await heard(changes) == frozenset()
