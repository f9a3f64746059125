"""Uploads by their handle: who may name which in a launch, and what it does to them."""

from typing import Any

import pytest

from schema.common import ids
from schema.common.ids import HandleKind
from schema.db.database import Database
from schema.jobs import lifecycle
from tests.support.mcp.client import answer_text, call_for_result, call_tool, read_refusal
from tests.support.subjects import ADA_ID, BOB_ID, BOB_TOKEN
from tests.support.uploads import create_upload, store_upload

MODEL = {"model": "m/captioner", "task": "image-to-text"}


@pytest.fixture
async def upload_handle(database: Database, ada_id: str) -> str:
    """A picture that Ada has sent."""
    async with database.transaction() as tx:
        upload = await store_upload(tx, ada_id, b"picture", "image/png")
    return ids.format_handle(HandleKind.UPLOAD, upload.id)


async def read_pins(database: Database) -> list[tuple[str, str]]:
    async with database.transaction() as tx:
        rows = await tx.fetch("SELECT job_id, upload_id FROM job_upload ORDER BY job_id")
    return [
        (
            ids.format_handle(HandleKind.JOB, row["job_id"]),
            ids.format_handle(HandleKind.UPLOAD, row["upload_id"]),
        )
        for row in rows
    ]


@pytest.mark.parametrize("form", ["url", "bare", "item"])
async def test_a_job_pins_the_upload_that_it_names(
    service_url: str, database: Database, upload_handle: str, form: str
) -> None:
    """It is there when the job begins, however long that takes."""
    arguments: dict[str, dict[str, Any]] = {
        "url": {"inputs": {"url": upload_handle}},
        "bare": {"inputs": upload_handle},
        "item": {"items": [{"custom_id": "a", "inputs": {"url": upload_handle}}]},
    }

    view = await call_for_result(service_url, "launch_inference", **MODEL, **arguments[form])

    assert await read_pins(database) == [(view["job_id"], upload_handle)]


async def test_a_foreign_upload_is_not_told_from_none(
    service_url: str, database: Database, upload_handle: str
) -> None:
    """A stolen handle opens nothing, launches nothing, and says nothing of what there is."""
    async with database.transaction() as tx:
        pending = (await create_upload(tx, ADA_ID)).id
    unknown = ids.format_handle(HandleKind.UPLOAD, ids.new_id())
    never_sent = ids.format_handle(HandleKind.UPLOAD, pending)

    for dry_run in (False, True):
        texts = set[str]()
        for handle in (upload_handle, never_sent, unknown):
            answer = await call_tool(
                service_url,
                "launch_inference",
                caller_token=BOB_TOKEN,
                **MODEL,
                inputs={"url": handle},
                dry_run=dry_run,
            )
            assert read_refusal(answer)["code"] == "NotFound"
            texts.add(answer_text(answer).replace(handle, "…"))
        assert len(texts) == 1
        assert "create_upload" in texts.pop()

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job WHERE subject_id = $1", BOB_ID) == 0
    assert await read_pins(database) == []


async def test_a_repeated_call_finds_its_job_when_the_upload_is_gone(
    service_url: str, database: Database, upload_handle: str
) -> None:
    """An idempotency key is for those who do not know what became of their first call."""
    call: dict[str, Any] = {**MODEL, "inputs": {"url": upload_handle}, "idempotency_key": "k"}
    first = await call_for_result(service_url, "launch_inference", **call)
    async with database.transaction() as tx:
        job_id = ids.parse_handle(HandleKind.JOB, first["job_id"])
        await lifecycle.cancel_job(tx, job_id, subject_id=ADA_ID)
        await tx.execute("DELETE FROM upload")

    again = await call_for_result(service_url, "launch_inference", **call)

    assert again["job_id"] == first["job_id"]


async def test_a_schedule_takes_no_upload(service_url: str, upload_handle: str) -> None:
    """It would fire on when the file is long gone."""
    answer = await call_tool(
        service_url,
        "create_schedule",
        cron="@daily",
        inference={**MODEL, "inputs": {"url": upload_handle}},
    )

    assert answer.is_error
    assert "hf://" in answer_text(answer)
