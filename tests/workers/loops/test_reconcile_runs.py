"""What a worker learns from the Hub about runs that owe a step; the Hub is the local one."""

from datetime import timedelta
from pathlib import Path

from schema.accounts import credentials
from schema.accounts import secrets as sealed_secrets
from schema.accounts.tables import Hold
from schema.accounts.vault import Secret, Vault
from schema.artifacts import log_store
from schema.jobs import lifecycle, run_launch
from schema.jobs.queries import UpstreamState
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobKind, JobState, Reason
from tests.support.factories import JobFactory
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.jobs.hub_runs import (
    SLEEP_SPEC,
    create_upstream_job,
    make_rows_due,
    read_stage,
    read_status,
)
from tests.support.polling import wait_until
from tests.support.subjects import ADA_ID
from workers.context import Worker
from workers.loops.poll_runs import poll_runs
from workers.loops.reconcile_runs import reconcile_runs


async def test_a_run_whose_answer_was_lost_is_found_by_its_label(
    worker: Worker, hub_emulator: HubEmulatorProcess, unconfirmed_claim: ClaimedJob
) -> None:
    """It goes on as if nothing had happened; nothing is sent a second time."""
    remote_id = await create_upstream_job(worker, hub_emulator, unconfirmed_claim)

    await reconcile_runs(worker)

    status = await read_status(worker, unconfirmed_claim)
    assert (status.state, status.remote_id) == (JobState.RUNNING, remote_id)


async def test_a_run_the_hub_never_had_ends_as_unconfirmed(
    worker: Worker, unconfirmed_claim: ClaimedJob
) -> None:
    """After the settle window and enough complete listings, and never before."""
    for _ in range(3):
        assert (await read_status(worker, unconfirmed_claim)).state is JobState.LAUNCHING
        await make_rows_due(worker, "remote_run")
        await reconcile_runs(worker)

    status = await read_status(worker, unconfirmed_claim)
    assert (status.state, status.reason) == (JobState.FAILED, Reason.LAUNCH_UNCONFIRMED)


async def test_of_two_runs_with_one_label_the_older_lives_and_the_other_is_killed(
    worker: Worker, hub_emulator: HubEmulatorProcess, unconfirmed_claim: ClaimedJob
) -> None:
    """An intermediary that repeats a request must not cost twice."""
    first = await create_upstream_job(worker, hub_emulator, unconfirmed_claim)
    second = await create_upstream_job(worker, hub_emulator, unconfirmed_claim)

    await reconcile_runs(worker)
    await reconcile_runs(worker)

    assert (await read_status(worker, unconfirmed_claim)).remote_id == first
    assert read_stage(hub_emulator, second) == "CANCELED"
    assert read_stage(hub_emulator, first) != "CANCELED"


async def test_a_run_that_arrives_after_it_was_given_up_is_killed(
    worker: Worker, hub_emulator: HubEmulatorProcess, unconfirmed_claim: ClaimedJob
) -> None:
    """The listings of its namespace go on looking for it."""
    for _ in range(3):
        await make_rows_due(worker, "remote_run")
        await reconcile_runs(worker)
    late = await create_upstream_job(worker, hub_emulator, unconfirmed_claim)

    await make_rows_due(worker, "poll_group")
    await poll_runs(worker)
    await reconcile_runs(worker)

    status = await read_status(worker, unconfirmed_claim)
    assert read_stage(hub_emulator, late) == "CANCELED"
    assert (status.state, status.upstream) == (JobState.FAILED, UpstreamState.STOPPED)


async def test_a_cancelled_job_is_stopping_until_its_run_is_seen_to_be_over(
    worker: Worker, hub_emulator: HubEmulatorProcess, unconfirmed_claim: ClaimedJob
) -> None:
    """The view does not say stopped because a cancel was sent, but because it was seen."""
    remote_id = await create_upstream_job(worker, hub_emulator, unconfirmed_claim)
    async with worker.database.transaction() as tx:
        await lifecycle.cancel_job(tx, unconfirmed_claim.job_id, subject_id=ADA_ID)
    assert (await read_status(worker, unconfirmed_claim)).upstream is UpstreamState.STOPPING

    await reconcile_runs(worker)  # finds it, and learns that it is to die
    await reconcile_runs(worker)  # kills it

    assert read_stage(hub_emulator, remote_id) == "CANCELED"
    assert (await read_status(worker, unconfirmed_claim)).upstream is UpstreamState.STOPPED


async def test_a_person_who_runs_our_job_again_keeps_their_copy(
    worker: Worker, hub_emulator: HubEmulatorProcess, unconfirmed_claim: ClaimedJob
) -> None:
    """A copy carries our labels; it is theirs all the same."""
    remote_id = await create_upstream_job(worker, hub_emulator, unconfirmed_claim)
    copy = hub_emulator.api().rerun_job(job_id=remote_id, namespace="alice")

    await reconcile_runs(worker)
    await make_rows_due(worker, "poll_group")
    await poll_runs(worker)
    await reconcile_runs(worker)

    assert (await read_status(worker, unconfirmed_claim)).remote_id == remote_id
    wait_until(lambda: read_stage(hub_emulator, copy.id) == "RUNNING")


async def test_a_token_the_hub_refuses_holds_everything_in_its_place(
    worker: Worker, vault: Vault, unconfirmed_claim: ClaimedJob
) -> None:
    """Without sight nothing is concluded: not absent, not ended."""
    async with worker.database.transaction() as tx:
        await credentials.save_credential(
            tx, vault, subject_id=ADA_ID, name="ada", token=Secret("hf_dead"), expires_at=None
        )
    for _ in range(4):
        await make_rows_due(worker, "remote_run")
        await reconcile_runs(worker)

    status = await read_status(worker, unconfirmed_claim)
    assert (status.state, status.hold) == (JobState.LAUNCHING, Hold.CREDENTIALS)


async def test_a_young_run_the_hub_does_not_know_is_not_called_gone(
    worker: Worker, unconfirmed_claim: ClaimedJob
) -> None:
    """The Hub may not show everywhere what it has just made; a kill goes on until it is seen.

    A run is as young as our knowledge of it: its answer may have come long after its request.
    """
    async with worker.database.transaction() as tx:
        await run_launch.record_remote_id(
            tx,
            unconfirmed_claim.run_id,
            remote_id="0" * 24,
            stage=None,
            worker="w1",
            poll_after=timedelta(0),
        )
        await lifecycle.cancel_job(tx, unconfirmed_claim.job_id, subject_id=ADA_ID)
        await tx.execute("UPDATE remote_run SET posted_at = now() - interval '1 hour'")

    await reconcile_runs(worker)
    young = await read_status(worker, unconfirmed_claim)
    async with worker.database.transaction() as tx:
        await tx.execute("UPDATE remote_run SET seen_at = now() - interval '1 hour'")
    await make_rows_due(worker, "remote_run")
    await reconcile_runs(worker)

    assert young.upstream is UpstreamState.STOPPING
    assert (await read_status(worker, unconfirmed_claim)).upstream is UpstreamState.STOPPED


async def test_one_run_the_hub_will_not_talk_about_does_not_hide_the_others(
    worker: Worker,
    hub_emulator: HubEmulatorProcess,
    unconfirmed_claim: ClaimedJob,
    make_job: JobFactory,
) -> None:
    """A namespace the token has lost is one thing; the end of another job is news all the same."""
    remote_id = await create_upstream_job(worker, hub_emulator, unconfirmed_claim)
    await reconcile_runs(worker)
    hub_emulator.api().cancel_job(job_id=remote_id, namespace="alice")
    await make_job(namespace="alice", spec=SLEEP_SPEC)
    async with worker.database.transaction() as tx:
        (other,) = await run_launch.claim(
            tx,
            JobKind.HUB_JOB,
            limit=1,
            worker="w1",
            lease=timedelta(minutes=1),
            settle_window=timedelta(0),
        )
        # Not an id but a path to which the Hub says 405, not that it knows no such job.
        await run_launch.record_remote_id(
            tx,
            other.run_id,
            remote_id="x/cancel",
            stage=None,
            worker="w1",
            poll_after=timedelta(0),
        )

    await make_rows_due(worker, "poll_group")
    await poll_runs(worker)

    assert (await read_status(worker, unconfirmed_claim)).state is JobState.CANCELLED
    assert (await read_status(worker, other)).state is JobState.RUNNING


async def test_a_log_line_that_postgres_cannot_keep_does_not_hold_up_an_ending(
    worker: Worker, hub_emulator: HubEmulatorProcess, unconfirmed_claim: ClaimedJob
) -> None:
    """A program may print anything; its job is over all the same, and the rest can be read."""
    printed = "import sys; sys.stdout.buffer.write(b'a\\0b\\n')"
    spec = SLEEP_SPEC | {"command": ["python", "-c", printed]}
    remote_id = await create_upstream_job(worker, hub_emulator, unconfirmed_claim, spec=spec)
    await reconcile_runs(worker)
    wait_until(lambda: read_stage(hub_emulator, remote_id) == "COMPLETED")

    await make_rows_due(worker, "poll_group")
    await poll_runs(worker)

    status = await read_status(worker, unconfirmed_claim)
    async with worker.database.transaction() as tx:
        lines = await log_store.read_lines(tx, ADA_ID, unconfirmed_claim.job_id, start=0, limit=9)
    assert status.state is JobState.SUCCEEDED
    assert [line.text for line in lines] == ["a\ufffdb"]


async def test_what_a_job_printed_before_it_was_killed_is_kept_without_its_secrets(
    worker: Worker, hub_emulator: HubEmulatorProcess, unconfirmed_claim: ClaimedJob, tmp_path: Path
) -> None:
    """Nobody observes a run once it has been killed: whoever kills it keeps its log."""
    async with worker.database.transaction() as tx:
        secrets = {"KEY": Secret("s3cret-1")}
        await sealed_secrets.save_job_secrets(
            tx, worker.vault, unconfirmed_claim.job_id, ADA_ID, secrets
        )
    printed = tmp_path / "printed"
    spec = SLEEP_SPEC | {
        "command": ["sh", "-c", f"echo it is s3cret-1; touch {printed}; sleep 600"]
    }
    await create_upstream_job(worker, hub_emulator, unconfirmed_claim, spec=spec)
    await reconcile_runs(worker)
    wait_until(printed.exists)
    async with worker.database.transaction() as tx:
        await lifecycle.cancel_job(tx, unconfirmed_claim.job_id, subject_id=ADA_ID)

    await reconcile_runs(worker)

    async with worker.database.transaction() as tx:
        lines = await log_store.read_lines(tx, ADA_ID, unconfirmed_claim.job_id, start=0, limit=9)
        sealed = await tx.fetchval("SELECT count(*) FROM job_secret")
    assert (await read_status(worker, unconfirmed_claim)).upstream is UpstreamState.STOPPED
    assert [line.text for line in lines] == ["it is [redacted:KEY]"]
    assert sealed == 0
