"""What becomes of a job for each thing an executor can say; the executor is a stand-in."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import anyio
import pytest

from schema.accounts import secrets as sealed_secrets
from schema.accounts.tables import Hold
from schema.accounts.vault import Secret, Vault
from schema.db.database import Database
from schema.jobs import lifecycle, run_launch
from schema.jobs import queries as job_queries
from schema.jobs.queries import JobStatus, UpstreamState
from schema.jobs.run_end import RunResult
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobKind, JobState, Reason
from schema.settings import Settings
from tests.support.factories import JobFactory
from tests.support.subjects import ADA_ID
from workers.attempts.run import run_attempt
from workers.context import Worker
from workers.executor import (
    Completed,
    Created,
    ExecutionRequest,
    Executor,
    Outcome,
    Rejected,
    RetryLater,
    TokenRejected,
    Unknown,
)
from workers.hub.client import HubJobsClient
from workers.loops.reconcile_runs import reconcile_runs
from workers.timing import MAX_LAUNCH_TRIES, boottime_seconds

ANSWER = Completed(RunResult(JobState.SUCCEEDED, "ANSWERED", result={"text": "42"}))


class StubExecutor:
    """Returns a chosen outcome, and remembers the requests."""

    slots = 4
    resumes = False

    def __init__(self, outcome: Outcome, *, kind: JobKind = JobKind.HUB_JOB) -> None:
        self.kind = kind
        self.is_call = kind is JobKind.INFERENCE
        self.outcome = outcome
        self.requests: list[ExecutionRequest] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def execute(self, request: ExecutionRequest) -> Outcome:
        self.requests.append(request)
        await self.gate.wait()
        return self.outcome


@pytest.fixture
def make_worker(
    database: Database, vault: Vault, make_settings: Callable[..., Settings]
) -> Callable[..., Worker]:
    def make(*executors: Executor, **overrides: Any) -> Worker:
        return Worker(
            name="w1",
            settings=make_settings(**overrides),
            database=database,
            vault=vault,
            hub=cast("HubJobsClient", None),  # these tests never speak to the Hub
            executors={executor.kind: executor for executor in executors},
        )

    return make


WorkerFactory = Callable[..., Worker]


async def claim_one(worker: Worker, kind: JobKind, lease: timedelta | None = None) -> ClaimedJob:
    async with worker.database.transaction() as tx:
        (claim,) = await run_launch.claim(
            tx,
            kind,
            limit=1,
            worker=worker.name,
            lease=lease or worker.settings.lease,
            settle_window=worker.settings.settle,
        )
    return claim


async def run_claimed_job(worker: Worker, stub: StubExecutor) -> JobStatus:
    """Claim the one due job and carry it out; return where that left it."""
    claim = await claim_one(worker, stub.kind)
    await run_attempt(worker, stub, claim, claimed_at=boottime_seconds(), hand_back=asyncio.Event())
    return await read_status(worker, claim)


async def read_status(worker: Worker, claim: ClaimedJob) -> JobStatus:
    async with worker.database.transaction() as tx:
        status = await job_queries.get_job_status(tx, ADA_ID, claim.job_id)
    assert status is not None
    return status


@asynccontextmanager
async def run_call(worker: Worker, stub: StubExecutor) -> AsyncGenerator[ClaimedJob]:
    """Hold a call open for the length of a block, and see it end afterwards."""
    stub.gate.clear()
    claim = await claim_one(worker, stub.kind)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                lambda: run_attempt(
                    worker, stub, claim, claimed_at=boottime_seconds(), hand_back=asyncio.Event()
                )
            )
            while not stub.requests:
                await anyio.lowlevel.checkpoint()
            yield claim


async def test_a_run_that_came_to_be_is_bound_with_the_subjects_own_token(
    make_worker: WorkerFactory, make_job: JobFactory
) -> None:
    """The job runs at the Hub with the authority of whoever asked for it."""
    stub = StubExecutor(Created("r1", "SCHEDULING"))
    await make_job()

    status = await run_claimed_job(make_worker(stub), stub)

    assert (status.state, status.remote_id) == (JobState.RUNNING, "r1")
    assert stub.requests[0].token.reveal() == "hf_ada"


@pytest.mark.parametrize(
    "outcome", [RetryLater("no connection"), RetryLater("busy", timedelta(seconds=9))]
)
async def test_what_created_nothing_is_tried_again_later(
    make_worker: WorkerFactory, make_job: JobFactory, outcome: RetryLater
) -> None:
    """Nothing is lost and nothing hammered."""
    stub = StubExecutor(outcome)
    await make_job()

    status = await run_claimed_job(make_worker(stub), stub)

    assert (status.state, status.tries, status.upstream) == (JobState.QUEUED, 1, UpstreamState.NONE)
    assert status.due_at is not None
    assert status.due_at > status.read_at


async def test_a_job_that_can_never_be_launched_fails_in_the_end(
    make_worker: WorkerFactory, make_job: JobFactory, database: Database
) -> None:
    """A handle reaches a final state, whatever the Hub does."""
    stub = StubExecutor(RetryLater("busy"))
    job = await make_job()
    async with database.transaction() as tx:
        await tx.execute("UPDATE job SET tries = $1, version = version + 1", MAX_LAUNCH_TRIES - 1)
        await tx.execute(
            "INSERT INTO job_event (job_id, version, kind, state, actor)"
            " VALUES ($1, 2, 'stage', 'queued', 'test')",
            job.id,
        )

    status = await run_claimed_job(make_worker(stub), stub)

    assert (status.state, status.reason) == (JobState.FAILED, Reason.HUB_UNAVAILABLE)


async def test_a_refusal_fails_the_job_with_the_hubs_words(
    make_worker: WorkerFactory, make_job: JobFactory
) -> None:
    """What can never work is said at once, in words that say why."""
    stub = StubExecutor(
        Rejected(Reason.INSUFFICIENT_CREDITS, "Pre-paid credit balance is insufficient")
    )
    await make_job()

    status = await run_claimed_job(make_worker(stub), stub)

    assert (status.state, status.reason) == (JobState.FAILED, Reason.INSUFFICIENT_CREDITS)
    assert status.message == "Pre-paid credit balance is insufficient"


async def test_a_refused_token_holds_the_job_in_its_place(
    make_worker: WorkerFactory, make_job: JobFactory
) -> None:
    """It is not the job that is wrong; it goes on when its subject comes back."""
    stub = StubExecutor(TokenRejected("Invalid credentials in Authorization header"))
    await make_job()

    status = await run_claimed_job(make_worker(stub), stub)

    assert (status.state, status.hold) == (JobState.QUEUED, Hold.CREDENTIALS)


async def test_a_job_whose_secrets_cannot_be_opened_fails_and_is_not_launched_without(
    make_worker: WorkerFactory, make_job: JobFactory, database: Database
) -> None:
    """Their key left the ring, and a command without its secrets is another command."""
    stub = StubExecutor(Created("r1", None))
    worker = make_worker(stub)
    job = await make_job()
    other = Vault({"9": b"9" * 32})
    async with database.transaction() as tx:
        await sealed_secrets.save_job_secrets(tx, other, job.id, ADA_ID, {"KEY": Secret("s")})

    status = await run_claimed_job(worker, stub)

    assert (status.state, status.reason) == (JobState.FAILED, Reason.INTERNAL)
    assert "secrets" in (status.message or "")
    assert stub.requests == []


async def test_a_refusal_that_repeats_a_secret_is_kept_without_it(
    make_worker: WorkerFactory, make_job: JobFactory, database: Database, vault: Vault
) -> None:
    """The Hub may quote what it does not like."""
    stub = StubExecutor(Rejected(Reason.INVALID_REQUEST, "not a value: 's3cret-1', by hf_ada"))
    job = await make_job()
    async with database.transaction() as tx:
        await sealed_secrets.save_job_secrets(
            tx, vault, job.id, ADA_ID, {"KEY": Secret("s3cret-1")}
        )

    status = await run_claimed_job(make_worker(stub), stub)

    assert status.message == "not a value: '[redacted:KEY]', by [redacted:HF_TOKEN]"


async def test_the_token_a_job_is_given_is_looked_for_in_its_log_whichever_is_lent_then(
    make_worker: WorkerFactory, make_job: JobFactory, database: Database, vault: Vault
) -> None:
    """It is sealed with the job's secrets before it is sent, and reaches the job once."""
    stub = StubExecutor(Created("r1", None))
    spec = {"image": "python:3.12", "command": ["true"], "pass_token": True}
    job = await make_job(spec=spec)

    await run_claimed_job(make_worker(stub), stub)

    async with database.transaction() as tx:
        sealed = await sealed_secrets.open_job_secrets(tx, vault, job.id)
    assert {name: secret.reveal() for name, secret in sealed.items()} == {"HF_TOKEN": "hf_ada"}


async def test_a_lost_answer_is_never_asked_for_again(
    make_worker: WorkerFactory, make_job: JobFactory, database: Database
) -> None:
    """The run is unknown, the job still launching, and no second request goes out."""
    stub = StubExecutor(Unknown("no answer within 30 s"))
    await make_job()
    worker = make_worker(stub)

    status = await run_claimed_job(worker, stub)

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT state FROM remote_run") == "unknown"
        assert (
            await run_launch.claim(
                tx,
                JobKind.HUB_JOB,
                limit=5,
                worker="w2",
                lease=timedelta(1),
                settle_window=timedelta(1),
            )
            == []
        )
    assert status.state is JobState.LAUNCHING


async def test_a_worker_that_was_held_up_past_its_lease_sends_nothing(
    make_worker: WorkerFactory, make_job: JobFactory
) -> None:
    """By now another worker may be asking the Hub whether this run exists."""
    stub = StubExecutor(Created("r1", None))
    await make_job()
    worker = make_worker(stub)
    claim = await claim_one(worker, JobKind.HUB_JOB)

    long_ago = boottime_seconds() - worker.settings.lease.total_seconds()
    await run_attempt(worker, stub, claim, claimed_at=long_ago, hand_back=asyncio.Event())

    assert stub.requests == []
    assert (await read_status(worker, claim)).state is JobState.QUEUED


async def test_an_answered_call_leaves_its_result(
    make_worker: WorkerFactory, make_job: JobFactory, database: Database
) -> None:
    """The answer is the job's result, for as long as the job is kept."""
    stub = StubExecutor(ANSWER, kind=JobKind.INFERENCE)
    job = await make_job(kind=JobKind.INFERENCE)

    status = await run_claimed_job(make_worker(stub), stub)

    async with database.transaction() as tx:
        assert await job_queries.get_job_result(tx, ADA_ID, job.id) == {"text": "42"}
    assert status.state is JobState.SUCCEEDED


async def test_a_call_whose_answer_was_lost_is_not_repeated(
    make_worker: WorkerFactory, make_job: JobFactory
) -> None:
    """It may have been carried out and paid for; only its caller may decide to pay again."""
    stub = StubExecutor(Unknown("connection reset"), kind=JobKind.INFERENCE)
    await make_job(kind=JobKind.INFERENCE)

    status = await run_claimed_job(make_worker(stub), stub)

    assert (status.state, status.reason) == (JobState.FAILED, Reason.OUTCOME_UNKNOWN)


async def test_a_cancelled_call_is_dropped_by_the_worker_that_makes_it(
    make_worker: WorkerFactory, make_job: JobFactory, database: Database, ada_id: str
) -> None:
    """The handle is cancelled at once; the connection is closed at the next renewal."""
    stub = StubExecutor(ANSWER, kind=JobKind.INFERENCE)
    job = await make_job(kind=JobKind.INFERENCE)
    worker = make_worker(stub, lease="2s", post_timeout="1s")

    async with run_call(worker, stub) as claim, database.transaction() as tx:
        await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)

    status = await read_status(worker, claim)
    assert (status.state, status.upstream) == (JobState.CANCELLED, UpstreamState.STOPPED)


async def test_the_call_of_a_worker_that_fell_silent_ends_as_unknown(
    make_worker: WorkerFactory, make_job: JobFactory, database: Database
) -> None:
    """Nobody can ask what became of it, and a zombie's late answer is not taken."""
    stub = StubExecutor(ANSWER, kind=JobKind.INFERENCE)
    await make_job(kind=JobKind.INFERENCE)
    worker = make_worker(stub)

    async with run_call(worker, stub) as claim:
        async with database.transaction() as tx:
            await tx.execute("UPDATE remote_run SET due_at = now()")
        await reconcile_runs(worker)
        stub.gate.set()

    status = await read_status(worker, claim)
    assert (status.state, status.reason) == (JobState.FAILED, Reason.OUTCOME_UNKNOWN)


@pytest.mark.parametrize(
    ("kind", "run", "job"),
    [
        (JobKind.HUB_JOB, "unknown", (JobState.LAUNCHING, None)),
        (JobKind.INFERENCE, "ended", (JobState.FAILED, Reason.OUTCOME_UNKNOWN)),
    ],
)
async def test_what_a_stopped_worker_has_sent_is_handed_back_as_unclear(
    make_worker: WorkerFactory,
    make_job: JobFactory,
    kind: JobKind,
    run: str,
    job: tuple[JobState, Reason | None],
) -> None:
    """The next worker asks the Hub at once, and not only when the lease lapses."""
    stub = StubExecutor(Created("r1", None), kind=kind)
    await make_job(kind=kind)
    worker = make_worker(stub)

    claims: list[ClaimedJob] = []

    with anyio.CancelScope() as stopping:
        async with run_call(worker, stub) as claim:
            claims.append(claim)
            stopping.cancel()

    status = await read_status(worker, claims[0])
    async with worker.database.transaction() as tx:
        assert await tx.fetchval("SELECT state FROM remote_run") == run
    assert (status.state, status.reason) == job


async def test_a_call_that_was_held_up_past_its_lease_is_not_made_and_queued_again(
    make_worker: WorkerFactory, make_job: JobFactory
) -> None:
    """Nothing was sent, so nothing is in doubt, and the job is not left to nobody."""
    stub = StubExecutor(ANSWER, kind=JobKind.INFERENCE)
    await make_job(kind=JobKind.INFERENCE)
    worker = make_worker(stub)
    claim = await claim_one(worker, JobKind.INFERENCE, lease=timedelta(microseconds=1))

    await run_attempt(worker, stub, claim, claimed_at=boottime_seconds(), hand_back=asyncio.Event())

    assert stub.requests == []
    assert (await read_status(worker, claim)).state is JobState.QUEUED


@pytest.mark.parametrize("seconds_since_the_claim", [0.0, 5.0])
async def test_a_call_that_was_cancelled_meanwhile_is_not_sent(
    make_worker: WorkerFactory, make_job: JobFactory, seconds_since_the_claim: float
) -> None:
    """A worker that was held up asks before it sends; one that was not has just been told."""
    stub = StubExecutor(ANSWER, kind=JobKind.INFERENCE)
    worker = make_worker(stub)
    job = await make_job(kind=JobKind.INFERENCE)
    claim = await claim_one(worker, stub.kind)
    async with worker.database.transaction() as tx:
        assert await run_launch.begin_calls(tx, [claim.run_id], worker=worker.name)
        await lifecycle.cancel_job(tx, job.id, subject_id=ADA_ID)

    await run_attempt(
        worker,
        stub,
        replace(claim, has_begun=True),
        claimed_at=boottime_seconds() - seconds_since_the_claim,
        hand_back=asyncio.Event(),
    )

    status = await read_status(worker, claim)
    assert (status.state, status.upstream) == (JobState.CANCELLED, UpstreamState.STOPPED)
    assert len(stub.requests) == (0 if seconds_since_the_claim else 1)
