"""What one listing tells a worker: jobs that nobody recorded, and jobs that take too long."""

from contextlib import AbstractAsyncContextManager
from datetime import timedelta

import pytest

from schema.artifacts import log_store
from schema.db.database import Transaction
from schema.jobs import lifecycle, run_launch, work_queues
from schema.jobs.queries import UpstreamState
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobState, Reason
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.jobs.hub_runs import (
    SLEEP_SPEC,
    create_upstream_job,
    make_rows_due,
    poll_namespace,
    read_stage,
    read_status,
)
from tests.support.polling import wait_until
from tests.support.subjects import ADA_ID
from workers.context import Worker
from workers.loops import poll_runs as poll_runs_module
from workers.loops.poll_runs import poll_runs
from workers.loops.reconcile_runs import reconcile_runs


async def test_a_listing_binds_a_run_whose_answer_nobody_has_seen(
    worker: Worker, hub_emulator: HubEmulatorProcess, unconfirmed_claim: ClaimedJob
) -> None:
    """What is known is written down by whoever learns it first."""
    remote_id = await create_upstream_job(worker, hub_emulator, unconfirmed_claim)

    await poll_namespace(worker)

    status = await read_status(worker, unconfirmed_claim)
    assert (status.state, status.remote_id) == (JobState.RUNNING, remote_id)


async def test_a_second_job_with_the_label_of_a_bound_run_is_killed(
    worker: Worker, hub_emulator: HubEmulatorProcess, unconfirmed_claim: ClaimedJob
) -> None:
    """Somebody between us and the Hub repeated the request after we had its answer."""
    first = await create_upstream_job(worker, hub_emulator, unconfirmed_claim)
    await reconcile_runs(worker)
    second = await create_upstream_job(worker, hub_emulator, unconfirmed_claim)

    await poll_namespace(worker)
    await reconcile_runs(worker)

    status = await read_status(worker, unconfirmed_claim)
    assert read_stage(hub_emulator, second) == "CANCELED"
    assert read_stage(hub_emulator, first) != "CANCELED"
    assert (status.state, status.remote_id) == (JobState.RUNNING, first)


async def test_what_repeats_a_run_is_killed_although_that_run_is_over_already(
    worker: Worker, hub_emulator: HubEmulatorProcess, unconfirmed_claim: ClaimedJob
) -> None:
    """A kill needs no listing, so the last run of a namespace may end before anybody made one."""
    await create_upstream_job(worker, hub_emulator, unconfirmed_claim)
    await reconcile_runs(worker)
    second = await create_upstream_job(worker, hub_emulator, unconfirmed_claim)
    async with worker.database.transaction() as tx:
        await lifecycle.cancel_job(tx, unconfirmed_claim.job_id, subject_id=ADA_ID)
    await reconcile_runs(worker)
    assert (await read_status(worker, unconfirmed_claim)).upstream is UpstreamState.STOPPED

    await make_rows_due(worker, "poll_group")
    await poll_runs(worker)
    await reconcile_runs(worker)

    assert read_stage(hub_emulator, second) == "CANCELED"
    await make_rows_due(worker, "poll_group")
    await poll_runs(worker)
    async with worker.database.transaction() as tx:
        assert await tx.fetchval("SELECT due_at FROM poll_group") is None


async def test_a_run_that_was_refused_and_is_listed_all_the_same_is_killed(
    worker: Worker, hub_emulator: HubEmulatorProcess, unconfirmed_claim: ClaimedJob
) -> None:
    """A refusal need not have been the Hub's own; what is listed counts for more."""
    upstream_job = await create_upstream_job(worker, hub_emulator, unconfirmed_claim)
    async with worker.database.transaction() as tx:
        await run_launch.mark_not_created(
            tx, unconfirmed_claim.run_id, reason=Reason.INVALID_REQUEST, message="no", worker="w1"
        )

    await poll_namespace(worker)
    await reconcile_runs(worker)

    status = await read_status(worker, unconfirmed_claim)
    assert read_stage(hub_emulator, upstream_job) == "CANCELED"
    assert (status.state, status.upstream) == (JobState.FAILED, UpstreamState.STOPPED)


async def test_a_run_that_has_not_changed_takes_no_transaction(
    worker: Worker,
    hub_emulator: HubEmulatorProcess,
    unconfirmed_claim: ClaimedJob,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 100,000 runs hardly any has changed since the last listing."""
    remote_id = await create_upstream_job(worker, hub_emulator, unconfirmed_claim)
    await reconcile_runs(worker)
    wait_until(lambda: read_stage(hub_emulator, remote_id) == "RUNNING")
    await poll_namespace(worker)
    await make_rows_due(worker, "poll_group")
    monkeypatch.setattr(poll_runs_module, "MAX_FOLLOWED_LOGS", 0)
    for job in hub_emulator.api().list_jobs(namespace="alice"):
        if job.id != remote_id:  # of another test, and unknown to this one
            hub_emulator.api().cancel_job(job_id=job.id, namespace="alice")
    transactions: list[object] = []
    begin = worker.database.transaction

    def begin_and_count() -> AbstractAsyncContextManager[Transaction]:
        transactions.append(transaction := begin())
        return transaction

    monkeypatch.setattr(worker.database, "transaction", begin_and_count)
    await poll_runs(worker)

    assert len(transactions) == 2  # the lease of the group with its runs; when it is due again


async def test_the_label_of_somebody_elses_run_counts_for_nothing(
    worker: Worker, hub_emulator: HubEmulatorProcess, unconfirmed_claim: ClaimedJob
) -> None:
    """Labels are what their writer wants; a subject can only speak of their own runs."""
    await create_upstream_job(worker, hub_emulator, unconfirmed_claim)
    async with worker.database.transaction() as tx:
        await tx.execute("INSERT INTO subject (id, name) VALUES ('eve', 'eve')")
        await tx.execute("UPDATE remote_run SET subject_id = 'eve'")

    await poll_namespace(worker)

    async with worker.database.transaction() as tx:
        assert await tx.fetchval("SELECT state FROM remote_run") == "unknown"
        await tx.execute("UPDATE remote_run SET subject_id = $1", ADA_ID)


async def test_a_run_past_its_deadline_is_killed_and_its_job_ends_as_timed_out(
    worker: Worker, hub_emulator: HubEmulatorProcess, unconfirmed_claim: ClaimedJob
) -> None:
    """The handle ends with what was seen, and the bill with the run."""
    remote_id = await create_upstream_job(worker, hub_emulator, unconfirmed_claim)
    await reconcile_runs(worker)
    wait_until(lambda: read_stage(hub_emulator, remote_id) == "RUNNING")
    await poll_namespace(worker)
    async with worker.database.transaction() as tx:
        patience = await tx.fetchval("SELECT deadline_at - now() FROM remote_run")
        await tx.execute("UPDATE remote_run SET deadline_at = now()")

    await poll_namespace(worker)
    await reconcile_runs(worker)

    status = await read_status(worker, unconfirmed_claim)
    allowed = timedelta(seconds=SLEEP_SPEC["timeout"]) + worker.settings.run_slack
    assert allowed - timedelta(minutes=1) < patience <= allowed
    assert (status.state, status.reason) == (JobState.FAILED, Reason.TIMED_OUT)
    assert status.message == "It was still RUNNING after 11m."
    assert read_stage(hub_emulator, remote_id) == "CANCELED"


async def test_a_run_that_is_found_running_gets_its_start_and_its_deadline(
    worker: Worker, hub_emulator: HubEmulatorProcess, unconfirmed_claim: ClaimedJob
) -> None:
    """It has the time of a run that is running, and not that of one that waits for hardware."""
    remote_id = await create_upstream_job(worker, hub_emulator, unconfirmed_claim)
    wait_until(lambda: read_stage(hub_emulator, remote_id) == "RUNNING")
    await reconcile_runs(worker)

    await poll_namespace(worker)

    async with worker.database.transaction() as tx:
        patience = await tx.fetchval("SELECT deadline_at - now() FROM remote_run")
    allowed = timedelta(seconds=SLEEP_SPEC["timeout"]) + worker.settings.run_slack
    status = await read_status(worker, unconfirmed_claim)
    assert (status.stage, status.started_at is not None) == ("RUNNING", True)
    assert allowed - timedelta(minutes=1) < patience <= allowed


async def test_a_run_that_is_found_when_it_is_over_has_its_log(
    worker: Worker, hub_emulator: HubEmulatorProcess, unconfirmed_claim: ClaimedJob
) -> None:
    """Its stage is that of a run whose log has been read, which this one's has not."""
    spec = {**SLEEP_SPEC, "command": ["echo", "hello"]}
    remote_id = await create_upstream_job(worker, hub_emulator, unconfirmed_claim, spec)
    wait_until(lambda: read_stage(hub_emulator, remote_id) == "COMPLETED")
    await reconcile_runs(worker)

    await poll_namespace(worker)

    async with worker.database.transaction() as tx:
        lines = await log_store.read_lines(tx, ADA_ID, unconfirmed_claim.job_id, start=0, limit=10)
    assert (await read_status(worker, unconfirmed_claim)).state is JobState.SUCCEEDED
    assert "hello" in [line.text for line in lines]


async def test_an_absent_run_is_looked_for_often_at_first(
    worker: Worker, unconfirmed_claim: ClaimedJob
) -> None:
    """Whatever arrives late costs money until it is found."""
    for _ in range(3):
        await make_rows_due(worker, "remote_run")
        await reconcile_runs(worker)
    await poll_runs(worker)

    async with worker.database.transaction() as tx:
        first = await tx.fetchval("SELECT due_at - now() FROM poll_group")
        await tx.execute("UPDATE poll_group SET due_at = now(), watch_until = now() + '12 hours'")
        (turn,) = await work_queues.lease_due_poll_groups(tx, limit=1, lease=timedelta(seconds=1))
        await work_queues.finish_polls(
            tx, [turn], min_interval=timedelta(seconds=2), max_interval=timedelta(60)
        )
        later = await tx.fetchval("SELECT due_at - now() FROM poll_group")

    assert first is not None
    assert first < timedelta(seconds=10)
    assert later == timedelta(minutes=10)
