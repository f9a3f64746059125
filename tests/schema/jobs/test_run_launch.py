"""The promises of a launch: one at a time, facts kept, decisions fenced."""

import asyncio
from datetime import timedelta

from schema.accounts import credentials
from schema.accounts import secrets as sealed_secrets
from schema.accounts.vault import Secret, Vault
from schema.billing.budgets import Rate
from schema.db.database import Database, Transaction
from schema.jobs import lifecycle, run_end, run_launch, work_queues
from schema.jobs import queries as job_queries
from schema.jobs.queries import JobStatus, UpstreamState
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobKind, JobState, Reason
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.subjects import ADA_ID

NO_LEASE = timedelta(0)


async def read_status(database: Database, ada: str, claim: run_launch.ClaimedJob) -> JobStatus:
    async with database.transaction() as tx:
        status = await job_queries.get_job_status(tx, ada, claim.job_id)
    assert status is not None
    return status


async def record_remote_id(
    database: Database, claim: run_launch.ClaimedJob, remote_id: str = "r1"
) -> bool:
    async with database.transaction() as tx:
        return await run_launch.record_remote_id(
            tx,
            claim.run_id,
            remote_id=remote_id,
            stage="SCHEDULING",
            worker="w1",
            poll_after=timedelta(0),
        )


async def test_a_claimed_job_is_launching_with_its_intent_committed(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Whatever happens to the worker now, somebody will ask the Hub about this run."""
    job = await make_job()

    claims = await claim_jobs()

    async with database.transaction() as tx:
        runs = await tx.fetch("SELECT id, state, due_at > now() AS leased FROM remote_run")
    assert [one.job_id for one in claims] == [job.id]
    assert [tuple(run.values()) for run in runs] == [(claims[0].run_id, "posting", True)]
    assert (await read_status(database, ada_id, claims[0])).state is JobState.LAUNCHING


async def test_simultaneous_claims_never_take_the_same_job(
    make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Any number of workers may claim at once; each job is launched by one of them."""
    jobs = {(await make_job()).id for _ in range(12)}

    taken: list[run_launch.ClaimedJob] = []
    while len(taken) < len(jobs):
        rounds = await asyncio.gather(*(claim_jobs(limit=3) for _ in range(6)))
        taken += [one for round_ in rounds for one in round_]

    assert len(taken) == len(jobs)
    assert {one.job_id for one in taken} == jobs


async def test_a_busy_subject_does_not_starve_another(
    database: Database, vault: Vault, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Hands are shared out by turns between subjects, not by who queued first."""
    for _ in range(20):
        await make_job()
    other = "f" * 24
    async with database.transaction() as tx:
        await credentials.save_credential(
            tx, vault, subject_id=other, name="bob", token=Secret("hf_b"), expires_at=None
        )
    await make_job(subject_id=other, namespace="bob")
    async with database.transaction() as tx:
        await tx.execute("UPDATE subject SET last_served_at = now() WHERE id = $1", other)

    claims = await claim_jobs(limit=2)

    assert {one.subject_id for one in claims} == {ADA_ID, other}


async def test_a_bound_run_makes_the_job_run_and_is_watched(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """From here on the Hub's listing tells how it goes."""
    await make_job()
    (one,) = await claim_jobs()

    doomed = await record_remote_id(database, one)

    status = await read_status(database, ada_id, one)
    assert not doomed
    assert (status.state, status.remote_id, status.upstream) == (
        JobState.RUNNING,
        "r1",
        UpstreamState.LIVE,
    )


async def test_an_id_that_arrives_after_the_lease_lapsed_is_kept(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """A worker given up for dead may still bring the fact that something is running."""
    await make_job()
    (one,) = await claim_jobs(lease=NO_LEASE)
    async with database.transaction() as tx:
        await run_launch.mark_unconfirmed(
            tx, one.run_id, cause="silent", worker="w2", only_if_lapsed=True
        )

    await record_remote_id(database, one)

    assert (await read_status(database, ada_id, one)).remote_id == "r1"


async def test_a_rejection_about_an_earlier_attempt_decides_nothing(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """A zombie may add knowledge, but what becomes of the job is no longer its to say."""
    await make_job()
    (first,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.mark_not_created(tx, first.run_id, reason=None, message="429", worker="w1")
    (second,) = await claim_jobs()

    async with database.transaction() as tx:
        await run_launch.mark_not_created(
            tx, first.run_id, reason=Reason.INTERNAL, message="late", worker="w1"
        )

    status = await read_status(database, ada_id, second)
    assert (status.state, status.attempt) == (JobState.LAUNCHING, 2)


async def test_a_rejection_does_not_bring_a_cancelled_job_back(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Nothing was created, so nothing is left to stop, and nothing is tried again."""
    job = await make_job()
    (one,) = await claim_jobs()
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)

    async with database.transaction() as tx:
        await run_launch.mark_not_created(tx, one.run_id, reason=None, message="429", worker="w1")

    status = await read_status(database, ada_id, one)
    assert (status.state, status.upstream) == (JobState.CANCELLED, UpstreamState.STOPPED)


async def test_a_lease_that_is_still_held_cannot_be_taken_over(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Between finding a lapsed run and moving it, its worker may have come back."""
    await make_job()
    (one,) = await claim_jobs()

    async with database.transaction() as tx:
        assert await work_queues.find_lapsed_runs(tx) == []
        await run_launch.mark_unconfirmed(
            tx, one.run_id, cause="silent", worker="w2", only_if_lapsed=True
        )
        state = await tx.fetchval("SELECT state FROM remote_run")

    assert state == "posting"


async def test_the_lease_of_a_call_that_is_still_held_cannot_be_taken_over(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Neither before the call was sent nor while its answer is awaited."""
    await make_job(kind=JobKind.INFERENCE)
    (one,) = await claim_jobs(JobKind.INFERENCE)
    lost = RunResult(JobState.FAILED, "LOST", Reason.OUTCOME_UNKNOWN)

    async with database.transaction() as tx:
        await run_launch.mark_not_created(
            tx, one.run_id, reason=None, message="", worker="w2", only_if_lapsed=True
        )
        assert await run_launch.begin_calls(tx, [one.run_id], worker="w1")
        await run_end.end_call(tx, one.run_id, lost, worker="w2", only_if_lapsed=True)

    assert (await read_status(database, ada_id, one)).state is JobState.RUNNING


async def test_a_lease_that_lapsed_is_renewed_until_another_worker_has_seen_it(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """The clock may have jumped; once the answer is said to be lost, it stays lost."""
    await make_job(kind=JobKind.INFERENCE)
    (one,) = await claim_jobs(JobKind.INFERENCE, lease=NO_LEASE)

    async with database.transaction() as tx:
        assert await run_launch.renew_lease(tx, one.run_id, lease=NO_LEASE)
        await run_launch.mark_not_created(
            tx, one.run_id, reason=None, message="silent", worker="w2", only_if_lapsed=True
        )
        assert not await run_launch.renew_lease(tx, one.run_id, lease=timedelta(minutes=1))


async def test_what_is_told_of_a_bound_run_a_second_time_changes_nothing(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Its sender and whoever found it in a listing may both tell; a late doubt is settled."""
    await make_job()
    (one,) = await claim_jobs()
    await record_remote_id(database, one)

    await record_remote_id(database, one)
    async with database.transaction() as tx:
        await run_launch.mark_unconfirmed(tx, one.run_id, cause="timeout", worker="w1")

    status = await read_status(database, ada_id, one)
    assert (status.state, status.remote_id, status.version) == (JobState.RUNNING, "r1", 3)


async def test_a_call_is_answered_once(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """What was said to be lost stays lost: somebody may have acted on it."""
    await make_job(kind=JobKind.INFERENCE)
    (one,) = await claim_jobs(JobKind.INFERENCE)
    async with database.transaction() as tx:
        await run_launch.begin_calls(tx, [one.run_id], worker="w1")
        lost = RunResult(JobState.FAILED, "LOST", Reason.OUTCOME_UNKNOWN)
        await run_end.end_call(tx, one.run_id, lost, worker="w2")

    async with database.transaction() as tx:
        await run_end.end_call(
            tx, one.run_id, RunResult(JobState.SUCCEEDED, "ANSWERED"), worker="w1"
        )

    status = await read_status(database, ada_id, one)
    assert (status.reason, status.version) == (Reason.OUTCOME_UNKNOWN, 4)


async def test_a_cancel_during_the_launch_orders_the_kill_of_the_run_it_gets(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """The create request may already be on its way; what it makes is killed at once."""
    job = await make_job()
    (one,) = await claim_jobs()
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)

    doomed = await record_remote_id(database, one)

    status = await read_status(database, ada_id, one)
    assert doomed
    assert (status.state, status.upstream) == (JobState.CANCELLED, UpstreamState.STOPPING)
    async with database.transaction() as tx:
        await run_end.end_run(
            tx, one.run_id, RunResult(JobState.FAILED, "ERROR", Reason.INTERNAL), worker="w1"
        )
    status = await read_status(database, ada_id, one)
    assert (status.state, status.upstream) == (JobState.CANCELLED, UpstreamState.STOPPED)


async def test_a_late_success_does_not_bring_a_cancelled_call_back(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Cancel wins: the answer that was on its way is thrown away."""
    job = await make_job(kind=JobKind.INFERENCE)
    (one,) = await claim_jobs(JobKind.INFERENCE)
    async with database.transaction() as tx:
        assert await run_launch.begin_calls(tx, [one.run_id], worker="w1")
        await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)

    async with database.transaction() as tx:
        assert not await run_launch.renew_lease(tx, one.run_id, lease=timedelta(seconds=1))
        answer = RunResult(JobState.SUCCEEDED, "ANSWERED", result={"text": "late"})
        await run_end.end_call(tx, one.run_id, answer, worker="w1")
        assert await job_queries.get_job_result(tx, ada_id, job.id) is None

    status = await read_status(database, ada_id, one)
    assert (status.state, status.upstream) == (JobState.CANCELLED, UpstreamState.STOPPED)


async def test_a_call_is_begun_once_and_only_under_its_lease(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """A worker that slept past its lease must not send what another may have sent."""
    await make_job(kind=JobKind.INFERENCE)
    (slept,) = await claim_jobs(JobKind.INFERENCE, lease=NO_LEASE)

    async with database.transaction() as tx:
        assert not await run_launch.begin_calls(tx, [slept.run_id], worker="w1")
        await run_launch.mark_not_created(
            tx, slept.run_id, reason=None, message="", worker="w2", only_if_lapsed=True
        )
    (awake,) = await claim_jobs(JobKind.INFERENCE)
    async with database.transaction() as tx:
        assert await run_launch.begin_calls(tx, [awake.run_id], worker="w2")
        assert not await run_launch.begin_calls(tx, [awake.run_id], worker="w2")


async def test_calls_that_end_together_end_as_if_one_by_one(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Each gets its own result; one that was called off before stays what it is."""
    rate = Rate(1_000_000, timedelta(minutes=1))
    for _ in range(3):
        await make_job(kind=JobKind.INFERENCE, rate=rate)
    claims = await claim_jobs(JobKind.INFERENCE)
    one, two, called_off = claims
    run_ids = [claim.run_id for claim in claims]
    async with database.transaction() as tx:
        assert await run_launch.begin_calls(tx, run_ids, worker="w1") == set(run_ids)
        await lifecycle.cancel_job(tx, called_off.job_id, subject_id=ada_id)
        decided = await run_end.end_calls(
            tx,
            {
                one.run_id: RunResult(JobState.SUCCEEDED, "ANSWERED", result={"text": "yes"}),
                two.run_id: RunResult(JobState.FAILED, "LOST", Reason.OUTCOME_UNKNOWN, "why"),
                called_off.run_id: RunResult(JobState.SUCCEEDED, "ANSWERED", result={"text": "no"}),
            },
            worker="w1",
        )
        results = [await job_queries.get_job_result(tx, ada_id, each.job_id) for each in claims]
        active, held, spent = await _read_counters(tx, ada_id)

    states = [await read_status(database, ada_id, claim) for claim in claims]
    assert decided == {one.run_id, two.run_id}
    assert [(each.state, each.reason, each.message) for each in states] == [
        (JobState.SUCCEEDED, None, None),
        (JobState.FAILED, Reason.OUTCOME_UNKNOWN, "why"),
        (JobState.CANCELLED, None, None),
    ]
    assert results == [{"text": "yes"}, None, None]
    assert (active, held, spent) == (0, 0, 3_000_000)


async def _read_counters(tx: Transaction, subject_id: str) -> tuple[int, int, int]:
    row = await tx.fetchrow(
        "SELECT active, held_micro_usd, spent_micro_usd FROM subject"
        " JOIN spending ON spending.subject_id = subject.id WHERE subject.id = $1",
        subject_id,
    )
    assert row is not None
    return row["active"], row["held_micro_usd"], row["spent_micro_usd"]


async def test_a_job_is_claimed_with_its_token_and_its_secrets_sealed(
    database: Database,
    vault: Vault,
    ada_id: str,
    make_job: JobFactory,
    claim_jobs: ClaimFactory,
) -> None:
    """An attempt then needs no look at the database before it begins, and no log shows them."""
    job = await make_job()
    async with database.transaction() as tx:
        await sealed_secrets.save_job_secrets(tx, vault, job.id, ada_id, {"KEY": Secret("s3cret")})

    (claim,) = await claim_jobs()

    assert claim.sealed_token is not None
    assert claim.sealed_secrets is not None
    token = credentials.open_token(
        vault, ada_id, sealed=claim.sealed_token, version=claim.token_version or 0
    )
    assert token is not None
    assert token.token.reveal() == "hf_ada"
    opened = sealed_secrets.open_sealed_job_secrets(vault, job.id, ada_id, claim.sealed_secrets)
    assert opened["KEY"].reveal() == "s3cret"
    assert repr(claim.sealed_token) not in repr(claim)
    assert repr(claim.sealed_secrets) not in repr(claim)


async def test_a_token_that_expired_is_not_claimed_with_a_job(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Whoever has none that is usable is held, which the attempt then finds out."""
    await make_job()
    async with database.transaction() as tx:
        await tx.execute("UPDATE credential SET expires_at = now() WHERE subject_id = $1", ada_id)

    (claim,) = await claim_jobs()

    assert claim.sealed_token is None


async def test_counters_events_and_versions_agree_after_a_full_life(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """The history has no gap and folds to the state; the counters are what they count."""
    await make_job()
    (one,) = await claim_jobs()
    await record_remote_id(database, one)
    async with database.transaction() as tx:
        await run_end.record_stage(tx, one.run_id, stage="RUNNING", started_at=None, worker="w1")
        await run_end.record_stage(tx, one.run_id, stage="RUNNING", started_at=None, worker="w1")
        await run_end.end_run(
            tx, one.run_id, RunResult(JobState.SUCCEEDED, "COMPLETED"), worker="w1"
        )

    async with database.transaction() as tx:
        events = await tx.fetch("SELECT version, kind, state FROM job_event ORDER BY version")
        subject = await tx.fetchrow("SELECT active, queued FROM subject")
        live = await tx.fetchval("SELECT live FROM poll_group")
    assert [tuple(event.values()) for event in events] == [
        (1, "created", "queued"),
        (2, "claimed", "launching"),
        (3, "bound", "running"),
        (4, "stage", "running"),
        (5, "ended", "succeeded"),
    ]
    assert subject is not None
    assert tuple(subject.values()) == (0, 0)
    assert live == 0
    assert (await read_status(database, ada_id, one)).version == 5
