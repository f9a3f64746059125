"""A batch of a greedy subject does not keep others from theirs."""

from dataclasses import replace
from datetime import timedelta

from schema.accounts.vault import Vault
from schema.jobs.tables import JobKind, JobState
from tests.support.hub.model_router import RunningRouter
from tests.support.jobs.batch_runs import (
    BatchFactory,
    lend_token,
    make_prompts,
    read_status,
    run_worker,
    wait_for_calls,
    wait_for_status,
)
from tests.support.subjects import BOB_ID
from workers.context import Worker
from workers.executor import ExecutorDeps
from workers.executors.batch import BatchExecutor


class OneSlotBatchExecutor(BatchExecutor):
    """Carries out one batch at a time."""

    slots = 1


async def test_a_batch_hands_its_slot_back_while_others_wait(
    worker: Worker,
    vault: Vault,
    submit_batch: BatchFactory,
    running_router: RunningRouter,
) -> None:
    """It goes on in its next turn, and no item is sent twice."""
    executor = OneSlotBatchExecutor(
        ExecutorDeps(worker.hub, worker.database, worker.settings, vault)
    )
    settings = worker.settings.model_copy(update={"turn": timedelta(milliseconds=300)})
    short_turns = replace(worker, settings=settings, executors={JobKind.BATCH: executor})
    await lend_token(worker.database, vault, running_router.token("bob"), subject_id=BOB_ID)
    running_router.router.delay_seconds = 0.05
    long_job = await submit_batch(make_prompts(200))

    async with run_worker(short_turns):
        await wait_for_calls(running_router, 1)
        short_job = await submit_batch(["hers"], subject_id=BOB_ID, namespace="bob")
        short = await wait_for_status(
            worker.database, short_job, lambda status: status.is_settled, subject_id=BOB_ID
        )
        long_meanwhile = await read_status(worker.database, long_job)
        long = await wait_for_status(worker.database, long_job, lambda status: status.is_settled)

    assert short.state is JobState.SUCCEEDED
    assert not long_meanwhile.is_settled
    assert (long.state, long.tries) == (JobState.SUCCEEDED, 0)
    assert long.attempt > 1
    assert running_router.router.calls_by_prompt == dict.fromkeys([*make_prompts(200), "hers"], 1)


async def test_a_batch_keeps_its_slot_while_only_its_own_subject_waits(
    worker: Worker, vault: Vault, submit_batch: BatchFactory, running_router: RunningRouter
) -> None:
    """One job after another is what a person with two batches and one slot expects."""
    executor = OneSlotBatchExecutor(
        ExecutorDeps(worker.hub, worker.database, worker.settings, vault)
    )
    settings = worker.settings.model_copy(update={"turn": timedelta(0)})
    short_turns = replace(worker, settings=settings, executors={JobKind.BATCH: executor})
    running_router.router.delay_seconds = 0.02
    first, second = await submit_batch(make_prompts(40)), await submit_batch(["second"])

    async with run_worker(short_turns):
        await wait_for_status(worker.database, second, lambda status: status.is_settled)
        status = await read_status(worker.database, first)

    assert (status.state, status.attempt) == (JobState.SUCCEEDED, 1)
