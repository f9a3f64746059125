"""What a worker does between the claim of a job and the first step of its attempt."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import anyio
import pytest

from schema.accounts.vault import Vault
from schema.common.errors import InDoubt
from schema.db.database import Database, Transaction
from schema.jobs import queries as job_queries
from schema.jobs.run_end import RunResult
from schema.jobs.tables import Job, JobKind, JobState
from schema.settings import Settings
from tests.support.factories import JobFactory
from tests.support.subjects import ADA_ID
from workers.context import AutoResetEvent, Worker
from workers.executor import Completed, ExecutionRequest
from workers.hub.client import HubJobsClient
from workers.loops import engine
from workers.loops.claim_jobs import ClaimLoop


class CallExecutor:
    """An executor of calls that answers at once, and counts."""

    kind = JobKind.INFERENCE
    is_call = True
    resumes = False
    slots = 8

    def __init__(self) -> None:
        self.calls = 0

    async def execute(self, request: ExecutionRequest) -> Completed:
        """Answer."""
        del request
        self.calls += 1
        return Completed(RunResult(JobState.SUCCEEDED, "DONE", result={"text": "yes"}))


@pytest.fixture
def executor() -> CallExecutor:
    return CallExecutor()


@pytest.fixture
def worker(
    database: Database,
    vault: Vault,
    make_settings: Callable[..., Settings],
    executor: CallExecutor,
) -> Worker:
    return Worker(
        name="w1",
        settings=make_settings(),
        database=database,
        vault=vault,
        hub=cast("HubJobsClient", None),  # these tests never speak to the Hub
        executors={executor.kind: executor},
    )


async def read_events(database: Database, job: Job) -> list[str]:
    async with database.transaction() as tx:
        rows = await tx.fetch(
            "SELECT kind FROM job_event WHERE job_id = $1 ORDER BY version", job.id
        )
    return [row["kind"] for row in rows]


async def read_state(database: Database, job: Job) -> str:
    async with database.transaction() as tx:
        status = await job_queries.get_job_status(tx, ADA_ID, job.id)
    assert status is not None
    return status.state


async def refuse_to_queue_again(database: Database, job: Job) -> None:
    """Let Postgres refuse the event of a job that is queued again, as a bug of ours would."""
    async with database.transaction() as tx:
        await tx.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE 'no' USING ERRCODE = 'internal_error'; END $$"
        )
        await tx.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON job_event FOR EACH ROW"
            f" WHEN (NEW.kind = 'rejected' AND NEW.job_id = '{job.id}') EXECUTE FUNCTION refuse()"
        )


async def claim_once(worker: Worker) -> None:
    with anyio.fail_after(60):
        async with anyio.create_task_group() as attempts:
            await ClaimLoop(worker, attempts).claim_due_jobs()


async def claim_in_doubt(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claim jobs with a commit whose answer is lost."""
    begin = worker.database.transaction
    doubts: list[Any] = []

    @asynccontextmanager
    async def commit_and_lose_the_answer() -> AsyncGenerator[Transaction]:
        async with begin() as tx:
            yield tx
        if not doubts:
            doubts.append(tx)
            raise InDoubt("The database", effect="whether this was done is not known")

    monkeypatch.setattr(worker.database, "transaction", commit_and_lose_the_answer)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as attempts:
            with pytest.raises(InDoubt):
                await ClaimLoop(worker, attempts).claim_due_jobs()


async def claim_until_cut_off(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Claim jobs with a commit whose answer never comes, until the worker is stopped."""
    begin = worker.database.transaction
    committed = anyio.Event()

    @asynccontextmanager
    async def commit_and_never_answer() -> AsyncGenerator[Transaction]:
        async with begin() as tx:
            yield tx
        if not committed.is_set():
            committed.set()
            await anyio.sleep_forever()

    monkeypatch.setattr(worker.database, "transaction", commit_and_never_answer)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as attempts:
            attempts.start_soon(ClaimLoop(worker, attempts).claim_due_jobs)
            await committed.wait()
            attempts.cancel_scope.cancel()


async def test_a_call_is_begun_with_its_claim_and_ended(
    worker: Worker, database: Database, make_job: JobFactory, executor: CallExecutor
) -> None:
    """One commit stands between the queue and the call, and every step is in the history."""
    job = await make_job(kind=JobKind.INFERENCE)

    await claim_once(worker)

    assert executor.calls == 1
    assert await read_events(database, job) == ["created", "claimed", "begun", "ended"]


async def test_a_call_without_a_token_is_not_begun(
    worker: Worker, database: Database, make_job: JobFactory, executor: CallExecutor
) -> None:
    """It waits for its subject, and has not started."""
    job = await make_job(kind=JobKind.INFERENCE)
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM credential")

    await claim_once(worker)

    assert executor.calls == 0
    assert await read_events(database, job) == ["created", "claimed", "rejected"]


async def test_calls_whose_claim_is_in_doubt_are_queued_again_at_once(
    worker: Worker,
    database: Database,
    make_job: JobFactory,
    executor: CallExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing was sent. Left to another worker, they would fail as calls that perhaps were."""
    jobs = [await make_job(kind=JobKind.INFERENCE) for _ in range(2)]

    await claim_in_doubt(worker, monkeypatch)

    assert executor.calls == 0
    assert [await read_state(database, job) for job in jobs] == [JobState.QUEUED] * 2


async def test_a_claim_in_doubt_that_cannot_be_handed_back_ends_nothing_else(
    worker: Worker, database: Database, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All loops of the worker run beside it; the lease of that one job will lapse."""
    bad, good = [await make_job(kind=JobKind.INFERENCE) for _ in range(2)]
    await refuse_to_queue_again(database, bad)

    await claim_in_doubt(worker, monkeypatch)

    assert await read_state(database, bad) == JobState.RUNNING
    assert await read_state(database, good) == JobState.QUEUED


async def test_calls_whose_claim_is_cut_off_are_queued_again(
    worker: Worker,
    database: Database,
    make_job: JobFactory,
    executor: CallExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that is stopped at that moment knows that nothing was sent; no other one can."""
    job = await make_job(kind=JobKind.INFERENCE)

    await claim_until_cut_off(worker, monkeypatch)

    assert executor.calls == 0
    assert await read_state(database, job) == JobState.QUEUED


async def test_a_claim_that_cannot_be_handed_back_keeps_back_no_other(
    worker: Worker, database: Database, make_job: JobFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is stopped has a second and a half for each, and an error in one of them."""
    bad, good = [await make_job(kind=JobKind.INFERENCE) for _ in range(2)]
    await refuse_to_queue_again(database, bad)

    await claim_until_cut_off(worker, monkeypatch)

    assert await read_state(database, bad) == JobState.RUNNING
    assert await read_state(database, good) == JobState.QUEUED


class OtherExecutor(CallExecutor):
    """One of another kind."""

    kind = JobKind.SPACE_CALL


async def test_the_kind_of_a_wakeup_is_claimed_first(
    database: Database, worker: Worker, executor: CallExecutor, make_job: JobFactory
) -> None:
    """Its job does not wait for the claims of other kinds."""
    other = OtherExecutor()
    worker = replace(worker, executors={executor.kind: executor, other.kind: other})
    jobs = {kind: await make_job(kind=kind) for kind in worker.executors}

    engine.wake_loop(worker, other.kind)
    await claim_once(worker)

    async with database.transaction() as tx:
        rows = await tx.fetch("SELECT job_id FROM job_event WHERE kind = 'claimed' ORDER BY at")
    assert [row["job_id"] for row in rows] == [jobs[other.kind].id, jobs[executor.kind].id]
    assert worker.activity.woken_kinds == set()


async def test_a_wakeup_wakes_only_the_loop_that_it_is_for(worker: Worker) -> None:
    """A search for runs to be stopped would be in the way of the claim."""
    engine.wake_loop(worker, JobKind.INFERENCE)
    assert (await is_set(worker.events.claim), await is_set(worker.events.reconcile)) == (
        True,
        False,
    )

    engine.wake_loop(worker, None)
    assert (await is_set(worker.events.claim), await is_set(worker.events.reconcile)) == (
        False,
        True,
    )


async def is_set(event: AutoResetEvent) -> bool:
    with anyio.move_on_after(0):
        await event.wait()
        return True
    return False
