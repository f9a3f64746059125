"""The promises about who takes up what owes a step: one at a time, and again until it is done."""

from datetime import timedelta

import pytest

from schema.accounts import credentials
from schema.db.database import Database
from schema.jobs import lifecycle, run_launch, work_queues
from schema.jobs.run_launch import Claim
from schema.jobs.work_queues import AgedRun, Turn
from tests.conftest import ADA, JobFactory
from tests.schema.conftest import ClaimFactory

NOW = timedelta(0)
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def bound(database: Database, make_job: JobFactory, claim: ClaimFactory) -> Claim:
    """A run that is watched, and due to be."""
    await make_job()
    (one,) = await claim()
    async with database.transaction() as tx:
        await run_launch.bind(
            tx, one.run_id, remote_id="r1", stage=None, worker="w1", look_again=NOW
        )
    return one


@pytest.fixture
async def doomed(database: Database, bound: Claim) -> Claim:
    """A run that is to be killed."""
    async with database.transaction() as tx:
        await lifecycle.cancel(tx, bound.job_id, subject_id=ADA)
    return bound


async def doubt_another(database: Database, make_job: JobFactory, claim: ClaimFactory) -> Claim:
    await make_job()
    (one,) = await claim()
    async with database.transaction() as tx:
        await run_launch.doubt(tx, one.run_id, why="timeout", worker="w1", look_after=-MINUTE)
    return one


async def take_runs(database: Database, limit: int = 9, lease: timedelta = MINUTE) -> list[AgedRun]:
    async with database.transaction() as tx:
        return await work_queues.take_runs(tx, limit=limit, lease=lease)


async def take_groups(database: Database, lease: timedelta = MINUTE) -> list[Turn]:
    async with database.transaction() as tx:
        return await work_queues.take_groups(tx, limit=9, lease=lease)


async def hold(database: Database) -> None:
    async with database.transaction() as tx:
        await credentials.refused(tx, ADA, version=1)


async def test_a_run_taken_is_not_taken_again_until_the_lease_of_the_step_lapses(
    database: Database, doomed: Claim
) -> None:
    """Two workers would ask the Hub the same thing; one that dies is followed by another."""
    lapsing = await take_runs(database, lease=NOW)
    lasting = await take_runs(database)

    assert [run.id for run in lapsing + lasting] == [doomed.run_id] * 2
    assert await take_runs(database) == []


async def test_a_group_taken_is_not_taken_again_until_the_turn_lapses(
    database: Database, bound: Claim
) -> None:
    """The same, for listings."""
    lapsing = await take_groups(database, lease=NOW)
    lasting = await take_groups(database)

    assert (len(lapsing), len(lasting)) == (1, 1)
    assert await take_groups(database) == []


async def test_a_kill_order_is_taken_before_an_older_question(
    database: Database, doomed: Claim, make_job: JobFactory, claim: ClaimFactory
) -> None:
    """Something that costs money is stopped before something that may not exist is looked for."""
    question = await doubt_another(database, make_job, claim)

    taken = [*await take_runs(database, limit=1), *await take_runs(database, limit=1)]

    assert [run.id for run in taken] == [doomed.run_id, question.run_id]


async def test_a_kill_is_sent_again_until_the_run_is_seen_to_be_over(
    database: Database, doomed: Claim
) -> None:
    """The Hub may lose a cancel request, or answer it and not carry it out."""
    for kills in range(3):
        (run,) = await take_runs(database)
        assert run.kills == kills
        async with database.transaction() as tx:
            await work_queues.kill_sent(tx, run.id, look_again=NOW)


async def test_nothing_is_taken_up_for_a_subject_on_hold(
    database: Database, doomed: Claim, make_job: JobFactory, claim: ClaimFactory
) -> None:
    """Without a token there is nothing to ask with; it is due again once there is one."""
    await doubt_another(database, make_job, claim)
    await hold(database)

    assert await take_runs(database) == []
    assert await take_groups(database) == []


async def test_a_lost_turn_can_be_neither_given_back_nor_postponed(
    database: Database, bound: Claim
) -> None:
    """A worker that slept through its turn must not reschedule the one that follows."""
    (slept,) = await take_groups(database, lease=NOW)
    await take_groups(database)

    async with database.transaction() as tx:
        due_at = await tx.fetchval("SELECT due_at FROM poll_group")
        await work_queues.give_back(tx, slept, fastest=NOW, slowest=NOW)
        await work_queues.postpone(tx, slept, look_again=NOW)
        assert await tx.fetchval("SELECT due_at FROM poll_group") == due_at


@pytest.mark.parametrize(("asked", "minutes"), [({}, 1), ({"attempts": 3}, 3)])
async def test_a_run_may_last_as_long_as_all_its_attempts(
    database: Database,
    make_job: JobFactory,
    claim: ClaimFactory,
    asked: dict[str, int],
    minutes: int,
) -> None:
    """The Hub starts it anew within one run; given up after the first, the others would be lost."""
    await make_job(spec={"timeout": 60.0, "flavor": "cpu-basic", **asked})
    (one,) = await claim()
    async with database.transaction() as tx:
        await run_launch.bind(
            tx, one.run_id, remote_id="r1", stage=None, worker="w1", look_again=NOW
        )
    (turn,) = await take_groups(database)

    async with database.transaction() as tx:
        (run,) = await work_queues.bound_runs(tx, turn)

    assert run.timeout == minutes * MINUTE
