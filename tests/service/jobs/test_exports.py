"""Results to take along: what is in them, who gets them, and how many links there may be."""

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import anyio
import httpx2
import pytest

from schema.accounts import audit
from schema.artifacts import files
from schema.artifacts.files import JobFile, NewJobFile
from schema.batches import queries as batch_queries
from schema.batches import store as batch_store
from schema.batches.store import ItemOutcome
from schema.batches.tables import ItemState
from schema.common import ids
from schema.common.errors import TooManyLinks
from schema.common.ids import HandleKind
from schema.db.database import Database
from service.jobs.exports import name_entries
from tests.service.jobs.test_batches import begin_batch, end_run, launch, leave_half_done
from tests.support.factories import JobFactory
from tests.support.http_clients import AsyncHttpClient
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import RunDriver, make_job_with_history
from tests.support.mcp.client import (
    answer_text,
    call_for_result,
    call_tool,
    post_message,
    read_refusal,
)
from tests.support.polling import HTTP_TIMEOUT_SECONDS
from tests.support.subjects import ADA_ID, BOB_ID, BOB_TOKEN


async def make_link(url: str, handle: str, download: str) -> str:
    """Return a new link to an export."""
    view = await call_for_result(url, "job_result", job_id=handle, download=download)
    [file] = view["files"]
    link: str = file["url"]
    return link


async def follow_link(url: str, link: str, method: str = "GET") -> httpx2.Response:
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        return await http.request(method, f"{url}{urlsplit(link).path}")


async def read_lines(url: str, handle: str) -> list[dict[str, Any]]:
    page = await follow_link(url, await make_link(url, handle, "items"))
    assert page.status_code == 200
    return [json.loads(line) for line in page.text.splitlines()]


async def read_resource(url: str, uri: str, **more: Any) -> dict[str, Any]:
    answer = await post_message(url, "resources/read", {"uri": uri}, **more)
    body: dict[str, Any] = answer.json()
    return body


async def test_all_items_of_a_batch_are_one_file_by_link_and_by_resource(
    service_url: str, database: Database
) -> None:
    """In their order, each with its result or its error; what is open says so."""
    handle = (await launch(service_url))["job_id"]
    run_id = await leave_half_done(database)

    lines = await read_lines(service_url, handle)
    page = await follow_link(service_url, await make_link(service_url, handle, "items"))

    assert [(line["custom_id"], line["state"]) for line in lines] == [
        ("item-0", "done"),
        ("item-1", "failed"),
        ("item-2", "done"),
        ("item-3", "sent"),
        ("item-4", "pending"),
    ]
    assert lines[0].keys() == {"custom_id", "state", "result"}
    assert lines[1]["error"] == {"reason": "invalid_request", "message": "400: too long"}
    assert lines[2]["result"] == {"text": "two"}
    assert lines[3].keys() == {"custom_id", "state"}
    assert f"{handle}-incomplete-items.jsonl" in page.headers["content-disposition"]
    assert page.headers["content-type"] == "application/jsonl"

    await end_run(database, run_id)
    page = await follow_link(service_url, await make_link(service_url, handle, "items"))
    resource = await read_resource(service_url, f"job://{handle}/items")

    assert f'"{handle}-items.jsonl"' in page.headers["content-disposition"]
    assert json.loads(page.text.splitlines()[3]) == {
        "custom_id": "item-3",
        "state": "unknown",
        "error": {"reason": "outcome_unknown", "message": None},
    }
    [content] = resource["result"]["contents"]
    assert (content["text"], content["mimeType"]) == (page.text, "application/jsonl")


async def test_pages_of_items_are_bounded_by_their_bytes_and_lose_none(
    service_url: str, database: Database
) -> None:
    """Large results come few at a time; the whole is as large as it is."""
    count = 260
    handle = (await launch(service_url, count))["job_id"]
    run_id = await begin_batch(database)
    text = "".join(chr(0x4E00 + number % 5000) for number in range(30_000))  # hardly compressible
    outcomes = [ItemOutcome(place, ItemState.DONE, 1, {"text": text}) for place in range(4)]
    async with database.transaction() as tx:
        await batch_store.advance_items(tx, run_id, outcomes, after_position=3)

    async with database.transaction() as tx:
        job_id = ids.parse_handle(HandleKind.JOB, handle)
        page = await batch_queries.list_whole_items(
            tx, ADA_ID, job_id, start=0, limit=200, max_bytes=50_000
        )
    lines = await read_lines(service_url, handle)
    answer = await read_resource(service_url, f"job://{handle}/items")

    assert 1 <= len(page) < 4
    assert [line["custom_id"] for line in lines] == [f"item-{number}" for number in range(count)]
    assert all(line["result"]["text"] == text for line in lines[:4])
    assert len(answer["result"]["contents"][0]["text"].splitlines()) == count


async def test_a_log_is_one_text_and_says_what_was_not_stored(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    job, driver = await make_job(), RunDriver(database)
    run_id = await driver.start_run()
    await driver.append_log(run_id, *(f"line {number}" for number in range(5000)))

    page = await follow_link(service_url, await make_link(service_url, job_handle(job.id), "log"))

    assert page.text == "".join(f"line {number}\n" for number in range(5000))
    assert page.headers["content-type"] == "text/plain; charset=utf-8"


async def test_a_whole_record_is_one_archive(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """Nothing of it needs the service any more; names lead nowhere but below its folder."""
    job = await make_job_with_history(RunDriver(database), make_job, "succeeded")
    names = ["../../etc/cron.d/x", "A.txt", "a.TXT", "C:\\dir\\b.txt", "/abs", "..", "dir/é\n.md"]
    stored = [NewJobFile.from_content(name, name.encode(), None) for name in names]
    at_hub = NewJobFile("model.bin", 9, uri="hf://buckets/ada/b/model.bin", revision="f" * 64)
    async with database.transaction() as tx:
        await files.save_files(tx, job.id, [*stored, at_hub])

    page = await follow_link(
        service_url, await make_link(service_url, job_handle(job.id), "archive")
    )

    with zipfile.ZipFile(io.BytesIO(page.content)) as archive:
        assert archive.testzip() is None
        entries = archive.namelist()
        contents = {name: archive.read(name) for name in entries}
    assert len({name.lower() for name in entries}) == len(entries)
    assert not any(name.startswith("/") or ".." in name or "\\" in name for name in entries)
    listed = {file["name"]: file for file in json.loads(contents["files.json"])}
    assert listed["model.bin"]["uri"] == "hf://buckets/ada/b/model.bin"
    assert listed["model.bin"]["entry"] is None
    for name in names:
        assert contents[listed[name]["entry"]] == name.encode()
    assert json.loads(contents["job.json"])["job_id"] == job_handle(job.id)
    assert json.loads(contents["request.json"])["image"]
    assert json.loads(contents["timeline.json"])[0]["kind"] == "created"
    assert "log.txt" in entries
    assert page.headers["content-disposition"].startswith(
        f'attachment; filename="{job_handle(job.id)}-record.zip"'
    )


def test_no_name_leads_out_of_the_folder_of_an_archive() -> None:
    """`name_entries`: whatever a job called its files."""
    names = ["..", "a/../../b", "\\\\server\\x", "con\x00", " . ", "x" * 900, "é/é", "ü/ü"]

    entries = name_entries([make_file(name) for name in names])

    assert len(set(entries.values())) == len(names)
    for entry in entries.values():
        folder, *steps = entry.split("/")
        assert folder == "files"
        assert all(step.strip(". ") for step in steps)


def make_file(name: str) -> JobFile:
    return JobFile(job_id=uuid4(), subject_id=ADA_ID, name=name, size_bytes=1)


async def test_what_is_not_there_to_take_along_is_refused_in_words(
    service_url: str, make_job: JobFactory
) -> None:
    handle = job_handle((await make_job()).id)

    async def refuse(download: str) -> str:
        answer = await call_tool(service_url, "job_result", job_id=handle, download=download)
        assert answer.is_error
        return answer_text(answer)

    assert "only a batch has items" in await refuse("items")
    assert "There is no result yet" in await refuse("archive")


async def test_links_are_counted_also_by_calls_at_the_same_moment(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """As many as there may be, and not one more; their owner sees them, and when there is room."""
    await make_job()
    expires_at = datetime.now(UTC) + timedelta(minutes=10)
    refusals: list[TooManyLinks] = []

    async def record(subject_id: str = ADA_ID) -> None:
        try:
            async with database.transaction() as tx:
                await audit.record_link(
                    tx,
                    subject_id,
                    client=None,
                    handle="job_x",
                    export="log",
                    expires_at=expires_at,
                )
        except TooManyLinks as error:
            refusals.append(error)

    for _ in range(audit.MAX_LIVE_LINKS - 3):
        await record()
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(record)
    await record(BOB_ID)

    assert len(refusals) == 5
    usage = refusals[0].limit_usage
    assert usage is not None
    assert (usage.limit, usage.used, usage.resets_at) == (50, 50, expires_at)
    view = await call_for_result(service_url, "whoami")
    assert len(view["links"]) == audit.MAX_LIVE_LINKS
    assert "Download links that work: 50 of 50" in answer_text(
        await call_tool(service_url, "whoami")
    )


async def test_a_call_for_one_link_too_many_says_when_there_is_room(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    job = await make_job()
    await make_link(service_url, job_handle(job.id), "log")
    async with database.transaction() as tx:
        await tx.execute(
            "INSERT INTO audit_entry (subject_id, action, facts)"
            " SELECT subject_id, action, facts FROM audit_entry, generate_series(1, 49)"
            " WHERE action = 'link_made'"
        )

    answer = await call_tool(service_url, "job_result", job_id=job_handle(job.id), download="log")

    refusal: dict[str, Any] = dict(read_refusal(answer))
    assert (refusal["code"], refusal["limit"], refusal["used"]) == ("TooManyLinks", 50, 50)
    assert refusal["resets_at"] is not None
    assert "whoami shows them" in answer_text(answer)


async def test_a_link_is_worth_nothing_once_its_job_is_gone_and_nobody_else_makes_one(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """Deleted data is not served from a link of before; foreign jobs are as unknown as none."""
    job = await make_job_with_history(RunDriver(database), make_job, "succeeded")
    handle, other = job_handle(job.id), job_handle(uuid4())
    links = [await make_link(service_url, handle, download) for download in ("log", "archive")]
    forged = await follow_link(service_url, f"{links[0][:-6]}AAAAAA")

    foreign, unknown = [
        await call_tool(
            service_url, "job_result", caller_token=BOB_TOKEN, job_id=each, download="archive"
        )
        for each in (handle, other)
    ]
    async with database.transaction() as tx:
        await tx.execute("DELETE FROM remote_run")
        await tx.execute("DELETE FROM job")
    after = [await follow_link(service_url, link) for link in links]

    assert answer_text(foreign).replace(handle, other) == answer_text(unknown)
    assert {(page.status_code, page.content) for page in after} == {(404, forged.content)}


@pytest.mark.parametrize("download", ["log", "archive"])
async def test_asking_for_the_head_of_an_export_makes_nothing(
    service_url: str, database: Database, make_job: JobFactory, download: str
) -> None:
    job = await make_job_with_history(RunDriver(database), make_job, "succeeded")

    head = await follow_link(
        service_url, await make_link(service_url, job_handle(job.id), download), "HEAD"
    )

    assert (head.status_code, head.content) == (200, b"")
