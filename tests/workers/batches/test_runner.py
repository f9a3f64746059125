"""A batch is carried out item by item, and each comes to one outcome, whatever happens."""

import json
import time
from typing import Any, Final

import anyio
import anyio.to_thread
from huggingface_hub import HfApi
from starlette.responses import JSONResponse

from schema.accounts.tables import Hold
from schema.accounts.vault import Vault
from schema.batches import queries as batch_queries
from schema.batches.queries import ItemStatus
from schema.batches.store import BatchCounts
from schema.batches.tables import ItemState
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs import queries as job_queries
from schema.jobs.tables import Job, JobKind, JobState, Reason
from tests.support.factories import JobFactory
from tests.support.hub.model_router import RunningRouter
from tests.support.hub.scripted_hub import error_response
from tests.support.jobs.batch_runs import (
    BATCH_SPEC,
    BatchFactory,
    lend_token,
    make_prompts,
    run_to_end,
    run_worker,
    wait_for_calls,
    wait_for_status,
)
from tests.support.subjects import ADA_ID
from workers.context import Worker


async def read_items(database: Database, job: Job) -> dict[str, ItemStatus]:
    async with database.transaction() as tx:
        stored = await batch_queries.list_items(
            tx, ADA_ID, job.id, states=list(ItemState), start=0, limit=500, max_result_chars=10_000
        )
    return {item.custom_id: item for item in stored}


async def count_outcomes(database: Database, job: Job) -> BatchCounts:
    async with database.transaction() as tx:
        stored = await batch_queries.count_subject_items(tx, ADA_ID, job.id)
    assert stored is not None
    return stored


def prompt_number(prompt: str) -> int:
    return int(prompt.removeprefix("say "))


async def test_every_item_is_asked_for_once_and_answered(
    worker: Worker, submit_batch: BatchFactory, running_router: RunningRouter
) -> None:
    """As many at a time as was asked for; what they used is summed."""
    running_router.router.delay_seconds = 0.02
    job = await submit_batch(make_prompts(40))

    status = await run_to_end(worker, job)

    assert status.state is JobState.SUCCEEDED
    assert running_router.router.calls_by_prompt == dict.fromkeys(make_prompts(40), 1)
    assert 1 < running_router.router.max_calls_in_flight <= 4
    items = await read_items(worker.database, job)
    assert all(f"said: {name}" in str((item.result or {})["text"]) for name, item in items.items())
    assert status.progress == {"done": 40, "total": 40, "message": None}
    async with worker.database.transaction() as tx:
        result = await job_queries.get_job_result(tx, ADA_ID, job.id)
    assert result is not None
    assert (result["done"], result["failed"], result["unknown"]) == (40, 0, 0)
    assert result["usage"]["prompt_tokens"] == 80


async def test_what_goes_wrong_with_an_item_is_its_own(
    worker: Worker, submit_batch: BatchFactory, running_router: RunningRouter
) -> None:
    """The others are answered; each says what was said about it."""

    def rule(prompt: str, _: int) -> Any:
        failures = {"say 1": error_response(400, "too long"), "say 3": error_response(502, "gone")}
        return failures.get(prompt)

    running_router.router.rule = rule
    job = await submit_batch(make_prompts(5))

    status = await run_to_end(worker, job)

    items = await read_items(worker.database, job)
    assert status.state is JobState.SUCCEEDED
    assert status.progress == {"done": 5, "total": 5, "message": "1 failed, 1 unknown"}
    assert [f"{item.state}" for item in items.values()] == [
        *("done", "failed", "done", "unknown", "done")
    ]
    assert "too long" in (items["say 1"].message or "")
    assert items["say 3"].reason is Reason.OUTCOME_UNKNOWN
    assert running_router.router.calls_by_prompt == dict.fromkeys(make_prompts(5), 1)


async def test_an_item_that_brought_nothing_usable_fails_with_what_it_brought(
    worker: Worker, submit_batch: BatchFactory, running_router: RunningRouter
) -> None:
    """Its tokens were paid for, so they are counted; equal failures are one, whatever they cost."""

    def rule(prompt: str, _: int) -> Any:
        choice = {"message": {"reasoning": prompt * len(prompt)}, "finish_reason": "length"}
        usage = {"prompt_tokens": 3, "completion_tokens": 10 * int(prompt[-1])}
        return JSONResponse({"choices": [choice], "usage": usage})

    running_router.router.rule = rule
    job = await submit_batch(make_prompts(2))

    status = await run_to_end(worker, job)

    items = await read_items(worker.database, job)
    assert {f"{item.state}" for item in items.values()} == {"failed"}
    assert "only reasoning" in (items["say 1"].message or "")
    assert (items["say 1"].result or {})["reasoning"] == "say 1" * 5
    assert (await count_outcomes(worker.database, job)).completion_tokens == 10
    assert status.state is JobState.FAILED
    assert (status.message or "").startswith("2 of 2 items: ")


async def test_what_is_in_doubt_is_repeated_if_that_was_asked_for_and_not_for_ever(
    worker: Worker, submit_batch: BatchFactory, running_router: RunningRouter
) -> None:
    """The caller has said that paying twice is better than knowing nothing."""
    running_router.router.rule = lambda prompt, times: (
        error_response(502) if prompt == "say 1" or times == 1 else None
    )
    job = await submit_batch(make_prompts(2), on_unknown="repeat", max_tries=2)

    await run_to_end(worker, job)

    items = await read_items(worker.database, job)
    assert [f"{item.state}" for item in items.values()] == ["done", "unknown"]
    assert running_router.router.calls_by_prompt == {"say 0": 2, "say 1": 2}


async def test_nothing_is_sent_in_a_pause_that_was_asked_for(
    worker: Worker, submit_batch: BatchFactory, running_router: RunningRouter
) -> None:
    """A refusal of one concerns them all; afterwards fewer are sent at a time."""
    storm: list[float] = []

    def rule(prompt: str, _: int) -> Any:
        if prompt == "say 6" and not storm:
            storm.append(time.monotonic())
            return error_response(429, "slow down", retry_after="1")
        return None

    running_router.router.rule = rule
    running_router.router.delay_seconds = 0.01
    job = await submit_batch(make_prompts(30))

    status = await run_to_end(worker, job)

    assert status.state is JobState.SUCCEEDED
    assert (await count_outcomes(worker.database, job)).done == 30
    # What was on its way by then may still have come.
    meanwhile = [
        at - storm[0] for at in running_router.router.call_times if 0.2 < at - storm[0] < 0.95
    ]
    assert meanwhile == []
    assert running_router.router.calls_by_prompt.total() == 31


async def test_a_provider_that_keeps_refusing_fails_the_item_in_the_end(
    worker: Worker, submit_batch: BatchFactory, running_router: RunningRouter
) -> None:
    """It was never carried out, and is said to have been tried as often as was asked for."""
    running_router.router.rule = lambda prompt, _: (
        error_response(503, "no room", retry_after="0") if prompt == "say 1" else None
    )
    job = await submit_batch(make_prompts(3), max_tries=2)

    await run_to_end(worker, job)

    items = await read_items(worker.database, job)
    assert (items["say 1"].state, items["say 1"].reason) == ("failed", Reason.HUB_UNAVAILABLE)
    assert "no room" in (items["say 1"].message or "")
    assert running_router.router.calls_by_prompt == {"say 0": 1, "say 1": 2, "say 2": 1}


async def test_without_credits_it_stops_and_keeps_what_is_done(
    worker: Worker, submit_batch: BatchFactory, running_router: RunningRouter
) -> None:
    """The rest would be refused alike; it was not carried out, and can be sent once there are."""
    running_router.router.rule = lambda prompt, _: (
        error_response(402, "You have depleted your credits.")
        if prompt_number(prompt) >= 6
        else None
    )
    job = await submit_batch(make_prompts(60))

    status = await run_to_end(worker, job)

    assert (status.state, status.reason) == (JobState.FAILED, Reason.INSUFFICIENT_CREDITS)
    assert "depleted" in (status.message or "")
    tally = await count_outcomes(worker.database, job)
    assert (tally.done, tally.failed, tally.unknown) == (6, 0, 0)
    assert running_router.router.calls_by_prompt.total() < 20


async def test_a_dead_token_holds_it_until_there_is_a_fresh_one(
    worker: Worker, submit_batch: BatchFactory, running_router: RunningRouter, vault: Vault
) -> None:
    """It goes on where it was, and repeats nothing that is done."""
    dead = True
    running_router.router.rule = lambda prompt, _: (
        error_response(401, "Invalid username or password.")
        if dead and prompt_number(prompt) >= 5
        else None
    )
    job = await submit_batch(make_prompts(20))
    async with run_worker(worker):
        await wait_for_status(worker.database, job, lambda status: status.hold is Hold.CREDENTIALS)
        tally = await count_outcomes(worker.database, job)
        dead = False
        await lend_token(worker.database, vault, running_router.token("bob"))
        status = await wait_for_status(worker.database, job, lambda status: status.is_settled)

    assert (tally.done, tally.failed, tally.unknown) == (5, 0, 0)
    assert (status.state, (await count_outcomes(worker.database, job)).done) == (
        JobState.SUCCEEDED,
        20,
    )
    assert (
        max(running_router.router.calls_by_prompt.values()) == 2
    )  # those that were refused, and not carried out


async def test_if_nothing_is_done_it_failed_for_the_commonest_reason(
    worker: Worker, submit_batch: BatchFactory
) -> None:
    """With the words of upstream, and of how many."""
    job = await submit_batch(make_prompts(3), model="missing/model")

    status = await run_to_end(worker, job)

    assert (status.state, status.reason) == (JobState.FAILED, Reason.INVALID_REQUEST)
    assert (status.message or "").startswith("3 of 3 items: ")
    assert "does not exist" in (status.message or "")


async def upload_file(router: RunningRouter, content: bytes, name: str = "items.jsonl") -> str:
    """Put a file where its worker can read it."""
    api = HfApi(endpoint=router.url, token=router.token())

    def upload() -> None:
        api.create_bucket("alice/work", private=True, exist_ok=True)
        api.batch_bucket_files("alice/work", add=[(content, f"in/{name}")])

    await anyio.to_thread.run_sync(upload)
    return f"hf://buckets/alice/work/in/{name}"


async def test_items_are_read_from_a_file_once_and_whole(
    worker: Worker, make_job: JobFactory, ada_router_token: None, running_router: RunningRouter
) -> None:
    """Whoever goes on with it goes on with what was read; the result says which content that is."""
    running_router.router.delay_seconds = 0.2
    lines = [json.dumps({"custom_id": f"é-{n}", "inputs": f"say {n}"}) for n in range(8)]
    path = await upload_file(running_router, "\r\n".join([*lines, "", ""]).encode())
    job = await make_job(kind=JobKind.BATCH, spec=BATCH_SPEC | {"items_from": path})
    async with run_worker(worker):
        await wait_for_calls(running_router, 1)
    assert (await count_outcomes(worker.database, job)).done < 8
    await upload_file(running_router, b"another file by now")

    worker.stopping.clear()
    status = await run_to_end(worker, job)

    assert status.state is JobState.SUCCEEDED
    assert list(await read_items(worker.database, job)) == [f"é-{n}" for n in range(8)]
    assert running_router.router.calls_by_prompt == dict.fromkeys(make_prompts(8), 1)
    async with worker.database.transaction() as tx:
        result = await job_queries.get_job_result(tx, ADA_ID, job.id)
    assert result is not None
    assert (result["source"]["path"], result["done"]) == (path, 8)
    assert result["source"]["revision"]


WRONG_FILES: Final = {
    b'{"custom_id": "a", "inputs": "again"}': "the custom_id 'a' is already used by Line 1 of hf://",
    b'{"custom_id": "b", "inputs": ': "is not JSON",
    b'{"custom_id": "b"}': "inputs: field required; write {",
    b'{"custom_id": "b", "inputs": "x", "url": "/v1"}': "url: extra inputs",
    b'{"custom_id": "b", "inputs": "\\u0000"}': "has a NUL",
    b'{"custom_id": "b","inputs":{"url":"upload_01krz4c0s0e5xv4k6w2q8ntb7m"}}': "names an upload",
    b'{"custom_id": "b", "inputs": ""}': "inputs: for chat-completion",
    b"[" * 100_000: "is not JSON",
}
"""The last line of a file, and what is said of it."""


async def test_a_wrong_line_fails_the_batch_before_anything_is_sent(
    worker: Worker, make_job: JobFactory, ada_router_token: None, running_router: RunningRouter
) -> None:
    """It is named; half a batch that was paid for would be worse than none."""
    async with run_worker(worker):
        for number, (last, message) in enumerate(WRONG_FILES.items()):
            content = b'{"custom_id": "a", "inputs": "first"}\n\n' + last
            path = await upload_file(running_router, content, f"{number}.jsonl")
            job = await make_job(kind=JobKind.BATCH, spec=BATCH_SPEC | {"items_from": path})

            status = await wait_for_status(worker.database, job, lambda status: status.is_settled)

            assert (status.state, status.reason) == (JobState.FAILED, Reason.INVALID_REQUEST)
            assert (status.message or "").startswith(f"Line 3 of {path}")
            assert message in (status.message or "")
    assert running_router.router.calls_by_prompt.total() == 0


async def test_a_cancel_keeps_what_is_done_and_sends_nothing_more(
    worker: Worker, submit_batch: BatchFactory, running_router: RunningRouter
) -> None:
    """What was under way is unknown: it may have been carried out, and charged."""
    running_router.router.delay_seconds = 0.1
    job = await submit_batch(make_prompts(200))
    async with run_worker(worker):
        await wait_for_calls(running_router, 16)
        async with worker.database.transaction() as tx:
            assert await lifecycle.cancel_job(tx, job.id, subject_id=ADA_ID)
        await wait_for_status(worker.database, job, lambda status: status.is_settled)

    tally = await count_outcomes(worker.database, job)
    assert (tally.done >= 8, tally.unknown <= 4, tally.failed) == (True, True, 0)
    assert running_router.router.calls_by_prompt.total() == tally.done + tally.unknown < 200


async def test_a_worker_that_is_stopped_lets_its_calls_end_and_another_goes_on(
    worker: Worker, submit_batch: BatchFactory, running_router: RunningRouter
) -> None:
    """A deployment costs no item: none is lost, and none is sent twice."""
    running_router.router.delay_seconds = 0.3
    job = await submit_batch(make_prompts(24))
    async with run_worker(worker):
        await wait_for_calls(running_router, 6)
    halfway = await count_outcomes(worker.database, job)
    assert 4 <= halfway.done == running_router.router.calls_by_prompt.total() < 24

    running_router.router.delay_seconds = 0.0
    worker.stopping.clear()
    status = await run_to_end(worker, job)

    assert status.state is JobState.SUCCEEDED
    assert running_router.router.calls_by_prompt == dict.fromkeys(make_prompts(24), 1)
