"""What one listing tells a worker: jobs that nobody recorded, and jobs that take too long."""

from datetime import timedelta

from schema.jobs import lifecycle, run_launch, work_queues
from schema.jobs.queries import Upstream
from schema.jobs.run_launch import Claim
from schema.jobs.tables import JobState, Reason
from tests.conftest import ADA
from tests.service.local.hub.conftest import RunningHub, until
from tests.workers.conftest import SLEEP, create, make_due, poll, stage_at, status_of
from workers.context import Worker
from workers.loops.poll_runs import observe
from workers.loops.reconcile_runs import attend


async def test_a_listing_binds_a_run_whose_answer_nobody_has_seen(
    worker: Worker, local_hub: RunningHub, doubted: Claim
) -> None:
    """What is known is written down by whoever learns it first."""
    remote_id = await create(worker, local_hub, doubted)

    await poll(worker)

    status = await status_of(worker, doubted)
    assert (status.state, status.remote_id) == (JobState.RUNNING, remote_id)


async def test_a_second_job_with_the_label_of_a_bound_run_is_killed(
    worker: Worker, local_hub: RunningHub, doubted: Claim
) -> None:
    """Somebody between us and the Hub repeated the request after we had its answer."""
    first = await create(worker, local_hub, doubted)
    await attend(worker)
    second = await create(worker, local_hub, doubted)

    await poll(worker)
    await attend(worker)

    status = await status_of(worker, doubted)
    assert stage_at(local_hub, second) == "CANCELED"
    assert stage_at(local_hub, first) != "CANCELED"
    assert (status.state, status.remote_id) == (JobState.RUNNING, first)


async def test_what_repeats_a_run_is_killed_although_that_run_is_over_already(
    worker: Worker, local_hub: RunningHub, doubted: Claim
) -> None:
    """A kill needs no listing, so the last run of a namespace may end before anybody made one."""
    await create(worker, local_hub, doubted)
    await attend(worker)
    second = await create(worker, local_hub, doubted)
    async with worker.database.transaction() as tx:
        await lifecycle.cancel(tx, doubted.job_id, subject_id=ADA)
    await attend(worker)
    assert (await status_of(worker, doubted)).upstream is Upstream.STOPPED

    await make_due(worker, "poll_group")
    await observe(worker)
    await attend(worker)

    assert stage_at(local_hub, second) == "CANCELED"
    await make_due(worker, "poll_group")
    await observe(worker)
    async with worker.database.transaction() as tx:
        assert await tx.fetchval("SELECT due_at FROM poll_group") is None


async def test_a_run_that_was_refused_and_is_listed_all_the_same_is_killed(
    worker: Worker, local_hub: RunningHub, doubted: Claim
) -> None:
    """A refusal need not have been the Hub's own; what is listed counts for more."""
    there = await create(worker, local_hub, doubted)
    async with worker.database.transaction() as tx:
        await run_launch.reject(
            tx, doubted.run_id, reason=Reason.INVALID_REQUEST, message="no", worker="w1"
        )

    await poll(worker)
    await attend(worker)

    status = await status_of(worker, doubted)
    assert stage_at(local_hub, there) == "CANCELED"
    assert (status.state, status.upstream) == (JobState.FAILED, Upstream.STOPPED)


async def test_the_label_of_somebody_elses_run_counts_for_nothing(
    worker: Worker, local_hub: RunningHub, doubted: Claim
) -> None:
    """Labels are what their writer wants; a subject can only speak of their own runs."""
    await create(worker, local_hub, doubted)
    async with worker.database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ('eve', 'eve')")
        await tx.execute("UPDATE remote_run SET subject_id = 'eve'")

    await poll(worker)

    async with worker.database.transaction() as tx:
        assert await tx.fetchval("SELECT state FROM remote_run") == "unknown"
        await tx.execute("UPDATE remote_run SET subject_id = $1", ADA)


async def test_a_run_past_its_deadline_is_killed_and_its_job_ends_as_timed_out(
    worker: Worker, local_hub: RunningHub, doubted: Claim
) -> None:
    """The handle ends with what was seen, and the bill with the run."""
    remote_id = await create(worker, local_hub, doubted)
    await attend(worker)
    until(lambda: stage_at(local_hub, remote_id) == "RUNNING")
    await poll(worker)
    async with worker.database.transaction() as tx:
        patience = await tx.fetchval("SELECT deadline_at - now() FROM remote_run")
        await tx.execute("UPDATE remote_run SET deadline_at = now()")

    await poll(worker)
    await attend(worker)

    status = await status_of(worker, doubted)
    allowed = timedelta(seconds=SLEEP["timeout"]) + worker.settings.run_slack
    assert allowed - timedelta(minutes=1) < patience <= allowed
    assert (status.state, status.reason) == (JobState.FAILED, Reason.TIMED_OUT)
    assert status.message == "It was still RUNNING after 11m."
    assert stage_at(local_hub, remote_id) == "CANCELED"


async def test_an_absent_run_is_looked_for_often_at_first(worker: Worker, doubted: Claim) -> None:
    """Whatever arrives late costs money until it is found."""
    for _ in range(3):
        await make_due(worker, "remote_run")
        await attend(worker)
    await observe(worker)

    async with worker.database.transaction() as tx:
        first = await tx.fetchval("SELECT due_at - now() FROM poll_group")
        await tx.execute("UPDATE poll_group SET due_at = now(), watch_until = now() + '12 hours'")
        (turn,) = await work_queues.take_groups(tx, limit=1, lease=timedelta(seconds=1))
        await work_queues.give_back(tx, turn, fastest=timedelta(seconds=2), slowest=timedelta(60))
        later = await tx.fetchval("SELECT due_at - now() FROM poll_group")

    assert first is not None
    assert first < timedelta(seconds=10)
    assert later == timedelta(minutes=10)
