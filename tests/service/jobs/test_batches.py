"""Many calls under one handle, over HTTP: asked for at once, read by page, run again in part."""

import json
import re
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from schema.batches import store as batch_store
from schema.batches.store import ItemOutcome
from schema.batches.tables import ItemState
from schema.common import ids
from schema.db.database import Database
from schema.jobs import run_end, run_launch
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobKind, JobState, Reason
from tests.support.factories import JobFactory
from tests.support.jobs.handles import job_handle
from tests.support.mcp.client import answer_text, call_for_result, call_tool, read_refusal

LONG_TEXT = "word " * 2000


def make_item(number: int, **more: Any) -> dict[str, Any]:
    return {"custom_id": f"item-{number}", "inputs": f"say {number}", **more}


async def launch(service: str, count: int = 5, **more: Any) -> dict[str, Any]:
    items = [make_item(number) for number in range(count)]
    return await call_for_result(
        service, "launch_inference", model="local/echo", items=items, **more
    )


async def begin_batch(database: Database) -> UUID:
    """Begin the batch, and send four of its items."""
    minute = timedelta(minutes=1)
    async with database.transaction() as tx:
        (claimed,) = await run_launch.claim(
            tx, JobKind.BATCH, limit=1, worker="w1", lease=minute, settle_window=minute
        )
    async with database.transaction() as tx:
        assert await run_launch.begin_calls(tx, [claimed.run_id], worker="w1")
        await batch_store.advance_items(tx, claimed.run_id, max_new_items=4)
    return claimed.run_id


async def leave_half_done(database: Database) -> UUID:
    """Leave a batch as it may be halfway."""
    run_id = await begin_batch(database)
    outcomes = [
        ItemOutcome(0, ItemState.DONE, 1, {"text": LONG_TEXT}, prompt_tokens=7),
        ItemOutcome(1, ItemState.FAILED, 1, None, Reason.INVALID_REQUEST, "400: too long"),
        ItemOutcome(2, ItemState.DONE, 1, {"text": "two"}, completion_tokens=5),
    ]
    async with database.transaction() as tx:
        await batch_store.advance_items(tx, run_id, outcomes, after_position=3)
    return run_id


async def end_run(database: Database, run_id: UUID) -> None:
    async with database.transaction() as tx:
        done = RunResult(JobState.SUCCEEDED, "ANSWERED")
        await run_end.end_call(tx, run_id, done, worker="w1")


def read_custom_ids(page: dict[str, Any]) -> list[str]:
    return [each["custom_id"] for each in page["items"]["items"]]


MAX_PARTS: Final = 20
"""More than a message of 60,000 characters is read in."""


async def test_of_a_long_message_the_beginning_and_the_end_are_shown(
    service_url: str, database: Database
) -> None:
    """What a server answered often says at its end what was wrong; all of it is one call away."""
    message = f"400: {'no ' * 20_000}such parameter"
    job_id = (await launch(service_url))["job_id"]
    run_id = await begin_batch(database)
    outcome = ItemOutcome(1, ItemState.FAILED, 1, {"text": "é"}, Reason.INVALID_REQUEST, message)
    async with database.transaction() as tx:
        await batch_store.advance_items(tx, run_id, [outcome], after_position=3)

    answer = await call_tool(service_url, "job_result", job_id=job_id)
    page: dict[str, Any] = answer.structured_content or {}
    [item] = page["items"]["items"]
    read, offsets, parts = "", ["0"], 0
    while offsets and (parts := parts + 1) < MAX_PARTS:
        part = await call_tool(
            service_url, "job_result", job_id=job_id, cursor=1, limit=1, offset=int(offsets[0])
        )
        view: dict[str, Any] = part.structured_content or {}
        read += answer_text(part).partition("(invalid_request): ")[2]
        offsets = re.findall(r"offset=(\d+)\) for what follows", view["next_step"])

    assert re.fullmatch(r"400: [no ]+…[no ]+such parameter", item["message"])
    assert re.search(r"400: [no ]+…[no ]+such parameter\né … \[cut: cursor=1", answer_text(answer))
    assert read == f"{message}\né"


async def test_what_is_answered_so_far_is_read_by_page_while_it_runs(
    service_url: str, database: Database
) -> None:
    """Nobody has to wait for the last item to see the first; what is long is shown when asked."""
    job_id = (await launch(service_url))["job_id"]
    run_id = await leave_half_done(database)

    page = await call_for_result(service_url, "job_result", job_id=job_id, limit=2)
    rest = await call_for_result(
        service_url, "job_result", job_id=job_id, cursor=page["items"]["next_cursor"]
    )
    alone = await call_for_result(service_url, "job_result", job_id=job_id, limit=1)
    failed = await call_for_result(service_url, "job_result", job_id=job_id, only="failed")

    assert (page["state"], read_custom_ids(page), read_custom_ids(rest)) == (
        "running",
        ["item-0", "item-1"],
        ["item-2"],
    )
    first, second = page["items"]["items"]
    assert first["result"] is None or len(first["result"]["text"]) == len(LONG_TEXT)
    assert (second["state"], second["reason"]) == ("failed", "invalid_request")
    assert rest["items"]["next_cursor"] is None
    assert alone["items"]["items"][0]["result"] == {"text": LONG_TEXT}
    assert read_custom_ids(failed) == ["item-1"]
    assert page["result"] == {
        "items": 5,
        "done": 2,
        "failed": 1,
        "unknown": 0,
        "pending": 2,
        "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
    }
    many = await call_for_result(service_url, "job_result", job_id=job_id, limit=100)
    cut = many["items"]["items"][0]
    assert (cut["result"], len(cut["excerpt"])) == (None, 118)

    await end_run(database, run_id)
    over = await call_for_result(service_url, "job_result", job_id=job_id)
    assert read_custom_ids(over) == ["item-0", "item-1", "item-2", "item-3"]
    assert over["items"]["items"][3]["state"] == "unknown"
    assert f'retry_job(job_id="{job_id}")' in over["next_step"]


MISTAKES: Final[list[tuple[dict[str, Any], str]]] = [
    ({}, "inputs is missing; give inputs for one call"),
    ({"inputs": "a", "items": [make_item(1)]}, "inputs and items are given"),
    ({"items": []}, "items: there is none"),
    (
        {"items": [make_item(1), make_item(2), make_item(1)]},
        "items[2]: the custom_id 'item-1' is already used by",
    ),
    ({"items": [{"custom_id": "a", "inputs": ""}]}, "items[0]: inputs: for chat-completion"),
    ({"items": [{"inputs": "a"}]}, "items[0].custom_id is missing"),
    ({"items": [make_item(1, parameters={"model": "x"})]}, "items[0]: parameters: 'model' is not"),
    ({"items": [make_item(1)], "task": "text-to-image"}, "makes files, and a batch keeps none"),
    ({"items": [make_item(1)], "concurrency": 64}, "concurrency: input should be less than"),
    ({"items_from": "/etc/passwd"}, "is not a file of the Hub; write hf://datasets/"),
    (
        {"items": [make_item(n, parameters={"user": "x" * 99_000}) for n in range(52)]},
        "and 5,000,000 are taken with a request. Put them into a file",
    ),
]
"""What a call may be given, and what is said of it."""


async def test_lines_for_openai_are_a_batch_as_they_are(service_url: str) -> None:
    """As a list, or as the text of their file; the address says the task."""
    line = {
        "custom_id": "request-1",
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": "local/echo", "input": "hi"},
    }
    for items in ([line], json.dumps(line), f"{json.dumps(line)}\n\n"):
        view = await call_for_result(
            service_url, "launch_inference", model="local/echo", items=items, dry_run=True
        )
        assert view["spec"]["task"] == "feature-extraction"
        assert view["spec"]["items"]["count"] == 1

    other_model = await call_tool(service_url, "launch_inference", model="a/b", items=[line])

    assert "it asks 'local/echo', and the batch asks 'a/b'" in answer_text(other_model)


async def test_a_batch_that_cannot_be_carried_out_is_refused_before_there_is_a_handle(
    service_url: str, database: Database
) -> None:
    """With which item is wrong, and what to write instead."""
    for arguments, message in MISTAKES:
        answer = await call_tool(service_url, "launch_inference", model="local/echo", **arguments)

        assert read_refusal(answer)["code"] == "Invalid", message
        assert message in answer_text(answer)
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 0


async def test_ten_thousand_items_are_launched_in_one_call_and_once_under_one_key(
    service_url: str, database: Database
) -> None:
    """Repeated, the call finds the job; with another item under that key it is a conflict."""
    first = await launch(service_url, 10_000, idempotency_key="k")
    again = await launch(service_url, 10_000, idempotency_key="k")
    other = await call_tool(
        *(service_url, "launch_inference"),
        model="local/echo",
        items=[make_item(0)],
        idempotency_key="k",
    )

    assert first["job_id"] == again["job_id"]
    assert "items" in answer_text(other)
    assert read_refusal(other)["code"] == "IdempotencyConflict"
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM batch_item") == 10_000


async def test_a_retry_sends_what_has_no_result_or_everything(
    service_url: str, database: Database
) -> None:
    """What is done was paid for; the new handle leads back to the old one."""
    old = (await launch(service_url))["job_id"]
    await end_run(database, await leave_half_done(database))

    rest = await call_for_result(service_url, "retry_job", job_id=old, overrides={"concurrency": 2})
    every = await call_for_result(service_url, "retry_job", job_id=old, only_failed=False)

    async with database.transaction() as tx:
        rows = await tx.fetch(
            "SELECT job_id, array_agg(custom_id ORDER BY position) AS names FROM batch_item"
            " WHERE state = 'pending' GROUP BY job_id"
        )
    named = {job_handle(row["job_id"]): row["names"] for row in rows}
    assert rest["rerun_of"] == old
    assert named[rest["job_id"]] == ["item-1", "item-3", "item-4"]
    assert named[every["job_id"]] == [f"item-{number}" for number in range(5)]


async def test_a_batch_with_every_result_has_nothing_to_be_retried(
    service_url: str, database: Database
) -> None:
    """It would pay for the same answers again; whoever wants that says so."""
    old = (await launch(service_url, 1))["job_id"]
    run_id = await begin_batch(database)
    async with database.transaction() as tx:
        await batch_store.advance_items(
            tx, run_id, [ItemOutcome(0, ItemState.DONE, 1, {"text": "yes"})]
        )
    await end_run(database, run_id)

    answer = await call_tool(service_url, "retry_job", job_id=old)

    assert "Every item of" in answer_text(answer)
    assert "only_failed=false" in answer_text(answer)


async def test_a_batch_has_no_price_so_a_budget_refuses_it(
    service_url: str, database: Database
) -> None:
    """What nobody can bound is not spent from what somebody has bounded; nothing is kept of it."""
    group = await call_for_result(service_url, "create_workspace", name="evals", budget_usd=5)

    answer = await call_tool(
        service_url,
        "launch_inference",
        model="local/echo",
        items=[make_item(1)],
        workspace_id=group["workspace_id"],
    )

    assert read_refusal(answer)["code"] == "BudgetExceeded"
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM batch_item") == 0


async def test_a_page_of_what_has_no_items_is_refused(
    service_url: str, make_job: JobFactory
) -> None:
    """And somebody else's batch is as unknown as one that never was."""
    single = job_handle((await make_job()).id)
    many = (await launch(service_url))["job_id"]

    page = await call_tool(service_url, "job_result", job_id=single, only="failed")
    foreign = await call_tool(
        service_url, "job_result", caller_token="hf_bob", job_id=many, only="done"
    )
    retried = await call_tool(service_url, "retry_job", caller_token="hf_bob", job_id=many)
    nowhere = job_handle(ids.new_id())
    unknown = await call_tool(
        service_url, "job_result", caller_token="hf_bob", job_id=nowhere, only="done"
    )
    assert "are for the items of a batch" in answer_text(page)
    assert answer_text(foreign).replace(many, nowhere) == answer_text(unknown)
    assert read_refusal(retried)["code"] == "NotFound"
