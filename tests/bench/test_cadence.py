"""The simulated cadence is that of the real statements."""

from datetime import timedelta
from itertools import pairwise
from typing import Final

import pytest

from schema.db.database import Database
from schema.jobs import run_launch, work_queues
from schema.jobs.tables import JobKind
from tests.bench.scenarios.cadence import (
    FREE_QUOTA,
    SPREAD,
    PollCost,
    Population,
    measure_population,
    next_poll_seconds,
    simulate,
)
from tests.support.factories import JobFactory

MIN_INTERVAL: Final = timedelta(seconds=2)
MAX_INTERVAL: Final = timedelta(seconds=60)
LEASE: Final = timedelta(seconds=90)
AGES: Final = [timedelta(seconds=each) for each in (0, 39, 41, 100, 600, 1199, 1201, 86_400)]
"""On both sides of the two bounds, and between them."""
DRAWS: Final = 20
IDLE: Final = Population(subjects=80, runs=80, run_duration=timedelta(days=10_000), prints=False)
"""Nobody launches, so all are polled as seldom as any is."""


async def bind_run(database: Database, make_job: JobFactory, *, poll_after: timedelta) -> None:
    """Launch a job, whose group is polled after so long at the latest."""
    await make_job()
    async with database.transaction() as tx:
        (claim,) = await run_launch.claim(
            tx, JobKind.HUB_JOB, limit=1, worker="w1", lease=LEASE, settle_window=LEASE
        )
        await run_launch.record_remote_id(
            tx,
            claim.run_id,
            remote_id=str(claim.run_id),
            stage=None,
            worker="w1",
            poll_after=poll_after,
        )


@pytest.fixture
async def bound_run(database: Database, make_job: JobFactory) -> None:
    """A group with one run, which is due."""
    await bind_run(database, make_job, poll_after=timedelta(0))


@pytest.mark.usefixtures("bound_run")
@pytest.mark.parametrize("age", AGES, ids=str)
async def test_a_poll_is_followed_by_the_next_one_as_it_is_simulated(
    database: Database, age: timedelta
) -> None:
    """Compare `next_poll_seconds` with what `finish_polls` sets, many times: it draws a number."""
    expected = next_poll_seconds(
        age.total_seconds(), min_interval=MIN_INTERVAL, max_interval=MAX_INTERVAL
    )

    factors: list[float] = []
    for _ in range(DRAWS):
        async with database.transaction() as tx:
            await tx.execute("UPDATE remote_run SET posted_at = now() - $1::interval", age)
            await tx.execute("UPDATE poll_group SET due_at = now()")
            (lease,) = await work_queues.lease_due_poll_groups(tx, limit=1, lease=LEASE)
            await work_queues.finish_polls(
                tx, [lease], min_interval=MIN_INTERVAL, max_interval=MAX_INTERVAL
            )
            delay: timedelta = await tx.fetchval("SELECT due_at - now() FROM poll_group")
        factors.append(delay.total_seconds() / expected)

    least, most = SPREAD
    assert least - 0.001 <= min(factors) < 1 < max(factors) <= most + 0.001


@pytest.mark.usefixtures("bound_run")
@pytest.mark.parametrize(
    ("due_in", "least", "most"), [(60, MIN_INTERVAL / 2, MIN_INTERVAL), (0, -LEASE, timedelta(0))]
)
async def test_a_launch_brings_its_group_forward_and_never_back(
    database: Database, make_job: JobFactory, due_in: int, least: timedelta, most: timedelta
) -> None:
    """As `simulate` does with `observe_min`, which is what a worker passes."""
    async with database.transaction() as tx:
        await tx.execute("UPDATE poll_group SET due_at = now() + make_interval(secs => $1)", due_in)

    await bind_run(database, make_job, poll_after=MIN_INTERVAL)

    async with database.transaction() as tx:
        delay: timedelta = await tx.fetchval("SELECT due_at - now() FROM poll_group")
    assert least <= delay <= most


@pytest.mark.usefixtures("bound_run")
async def test_the_group_that_has_been_due_for_longest_is_polled_first(
    database: Database,
) -> None:
    """As `simulate` takes them; else a busy deployment would never come to some of its people."""
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ('early', 'early')")
        await tx.execute(
            "INSERT INTO poll_group (subject_id, namespace, due_at)"
            " VALUES ('early', 'early', now() - interval '1 hour')"
        )
        (lease,) = await work_queues.lease_due_poll_groups(tx, limit=1, lease=LEASE)

    assert lease.subject_id == "early"


def test_a_person_who_launches_nothing_is_polled_once_a_minute() -> None:
    """That is `observe_max`; a window of the Hub has five minutes."""
    polls = simulate(IDLE, PollCost(), workers=10).polls

    assert set(polls) <= {4, 5, 6}


def test_too_few_workers_are_late_for_everybody_alike() -> None:
    """Fairness: nobody is polled twice before another one is polled once."""
    slow = PollCost(answer=timedelta(seconds=100))  # of a window of five minutes

    polls = simulate(IDLE, slow, workers=5).polls

    assert max(polls) - min(polls) == 1


def test_more_people_with_as_many_runs_cost_each_of_them_less() -> None:
    """The limit of the Hub is one of each person, and all that is ours grows with the people."""
    few, more, many = (
        measure_population(Population(subjects, 1000, timedelta(hours=1), prints=True), PollCost())
        for subjects in (1, 10, 100)
    )

    for fewer_people, more_people in pairwise((few, more, many)):
        assert more_people["quota_percent"] < fewer_people["quota_percent"] < 100
        assert more_people["requests_per_minute"] > fewer_people["requests_per_minute"]
    assert few["quota_percent"] == pytest.approx(
        100 * 5 * few["requests_per_minute_of_one"] / FREE_QUOTA
    )
