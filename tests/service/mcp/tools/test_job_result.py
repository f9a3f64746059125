"""Results in text: whatever a job left behind reaches a model that is shown nothing but content."""

import base64
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from mcp_types import AudioContent, CallToolResult, ImageContent, ResourceLink

from schema.artifacts import files
from schema.artifacts.files import NewJobFile
from schema.db.database import Database
from schema.jobs.run_end import RunResult
from schema.jobs.tables import Job, JobKind, JobState, Reason
from service.jobs.results import MAX_INLINE_FILE_BYTES
from tests.support.factories import JobFactory
from tests.support.http_clients import AsyncHttpClient
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import RunDriver, make_job_with_history
from tests.support.mcp.client import answer_text, call_tool, post_message

PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 2000
WAV = b"RIFF\x00\x00\x00\x00WAVE" + b"1" * 2000
MAX_REPLY_BYTES = 40_000
HOSTILE = ('\u4e2d\U0001f600"\\\n\x01' * 40_000)[:100_000]


@pytest.fixture
def run_driver(database: Database) -> RunDriver:
    """A worker on the test's database."""
    return RunDriver(database)


async def answer_call(run_driver: RunDriver, make_job: JobFactory, result: dict[str, Any]) -> Job:
    """Have a call answered."""
    job = await make_job(kind=JobKind.INFERENCE, spec={"model": "m/m"})
    run_id = await run_driver.start_run(JobKind.INFERENCE)
    await run_driver.answer_run(run_id, RunResult(JobState.SUCCEEDED, "ANSWERED", result=result))
    return job


async def leave_files(database: Database, job: Job, *left: NewJobFile) -> None:
    """Keep files of a job."""
    async with database.transaction() as tx:
        await files.save_files(tx, job.id, left)


def find_links(answer: CallToolResult) -> list[ResourceLink]:
    """Return the links among the blocks of an answer."""
    return [block for block in answer.content if isinstance(block, ResourceLink)]


def count_text_bytes(answer: CallToolResult) -> int:
    """Return the bytes of an answer without those of pictures and sounds."""
    blocks = [
        block.model_dump(mode="json", by_alias=True)
        for block in answer.content
        if not isinstance(block, ImageContent | AudioContent)
    ]
    whole = {"content": blocks, "structuredContent": answer.structured_content}
    return len(json.dumps(whole, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    ("result", "shown"),
    [
        (
            {"text": "Hello!", "model": "m/m", "usage": {"total_tokens": 11}},
            ["Hello!", "m/m", "11"],
        ),
        ({"text": "cut", "finish_reason": "length"}, ["cut", "finish_reason: length"]),
        (
            {"text": None, "tool_calls": [{"function": {"name": "add", "arguments": '{"a":1}'}}]},
            ["add", "arguments"],
        ),
        ({"text": "42", "reasoning": "six\ntimes seven"}, ["42", "reasoning: six\ntimes seven"]),
        ({"labels": [{"label": "GOOD", "score": 0.75}]}, ["GOOD: 0.75"]),
        ({"outputs": [{"label": "sum", "component": "Number", "value": 42}]}, ["sum: 42"]),
        ({"outputs": [{"label": "a", "component": "JSON", "value": {"k": [1]}}]}, ['a: {"k":[1]}']),
        (
            {"chunks": [{"text": "Hi", "timestamp": [0, 1.5]}]},
            ['{"text":"Hi","timestamp":[0,1.5]}'],
        ),
        ({"whatever": {"an": "executor of one's own"}}, ['{"an":"executor of one\'s own"}']),
    ],
)
async def test_what_a_call_answered_is_in_the_text(
    service_url: str,
    make_job: JobFactory,
    run_driver: RunDriver,
    result: dict[str, Any],
    shown: list[str],
) -> None:
    """Every kind of answer, also one that nobody foresaw."""
    job = await answer_call(run_driver, make_job, result)

    text = answer_text(await call_tool(service_url, "job_result", job_id=job_handle(job)))

    for part in shown:
        assert part in text


async def test_embeddings_are_their_shape_and_first_numbers_and_a_link_to_all(
    service_url: str, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """A model has no use for a thousand numbers; a program follows the link."""
    vectors = [[number / 8 for number in range(1024)], [1.5] * 1024]
    job = await answer_call(run_driver, make_job, {"embeddings": vectors})

    answer = await call_tool(service_url, "job_result", job_id=job_handle(job))
    [link] = find_links(answer)
    async with AsyncHttpClient() as http:
        whole = await http.get(f"{service_url}{urlsplit(link.uri).path}")

    assert "2 by 1024 numbers" in answer_text(answer)
    assert "[0]: [0.0, 0.125, 0.25," in answer_text(answer)
    assert count_text_bytes(answer) < MAX_REPLY_BYTES
    assert (link.name, link.mime_type) == ("result.json", "application/json")
    assert whole.json() == {"embeddings": vectors}
    assert whole.headers["content-disposition"].startswith("attachment")
    assert "no-store" in whole.headers["cache-control"]


async def test_a_long_answer_is_read_to_its_end_as_the_text_says(
    service_url: str, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """Nothing is lost, nothing comes twice, and no reply is too large."""
    job = await answer_call(run_driver, make_job, {"text": HOSTILE, "model": "m/m"})
    read, arguments = "", {"job_id": job_handle(job)}

    while True:
        answer = await call_tool(service_url, "job_result", **arguments)
        assert count_text_bytes(answer) < MAX_REPLY_BYTES
        assert answer.structured_content is not None
        head, _, page = answer_text(answer).partition(f" of {len(HOSTILE)}:\n")
        offset = answer.structured_content["next_offset"]
        end = len(HOSTILE) if offset is None else offset
        read += page[: end - len(read)]
        if offset is None:
            break
        assert f'job_result(job_id="{job_handle(job)}", offset={offset})' in head
        arguments["offset"] = offset

    assert read == HOSTILE
    beyond = await call_tool(service_url, "job_result", job_id=job_handle(job), offset=len(HOSTILE))
    assert "offset: the answer has 100,000 characters" in answer_text(beyond)


async def test_files_are_linked_with_their_type_and_size(
    service_url: str, database: Database, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """Those stored here and those at the Hub, of a command as of a call."""
    job = await make_job_with_history(run_driver, make_job, "succeeded")
    stored = NewJobFile.from_content("report.pdf", b"%PDF-" + b"0" * 1995, "application/pdf")
    at_hub = NewJobFile("out/model.bin", 5_000_000, uri="hf://buckets/ada/jobs/x/model.bin")
    await leave_files(database, job, stored, at_hub)

    answer = await call_tool(service_url, "job_result", job_id=job_handle(job))

    assert [(link.name, link.mime_type, link.size) for link in find_links(answer)] == [
        ("out/model.bin", None, 5_000_000),
        ("report.pdf", "application/pdf", 2000),
    ]
    assert "2 files: out/model.bin (5.0 MB), report.pdf (application/pdf, 2.0 kB)." in answer_text(
        answer
    )


async def test_pictures_and_sounds_are_shown(
    service_url: str, database: Database, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """Up to a size that hosts take; what is larger, and film, is linked like any file."""
    job = await make_job_with_history(run_driver, make_job, "answered")
    exact = PNG.ljust(MAX_INLINE_FILE_BYTES, b"0")
    left = {"a.png": PNG, "b.png": exact, "c.png": exact + b"0", "d.wav": WAV}
    types = {"png": "image/png", "wav": "audio/wav"}
    await leave_files(
        database,
        job,
        *(NewJobFile.from_content(name, data, types[name[-3:]]) for name, data in left.items()),
        NewJobFile.from_content("e.mp4", b"film", "video/mp4"),
    )

    answer = await call_tool(service_url, "job_result", job_id=job_handle(job))

    media = [block for block in answer.content if isinstance(block, ImageContent | AudioContent)]
    assert [(block.type, block.mime_type, base64.b64decode(block.data)) for block in media] == [
        ("image", "image/png", PNG),
        ("image", "image/png", exact),
        ("audio", "audio/wav", WAV),
    ]
    assert [link.name for link in find_links(answer)] == [*left, "e.mp4"]
    assert count_text_bytes(answer) < MAX_REPLY_BYTES


@pytest.mark.parametrize(
    ("version", "kinds"),
    [
        ("2024-11-05", ["text", "text", "image", "text", "text", "text"]),
        ("2025-03-26", ["text", "text", "image", "audio", "text", "text"]),
        ("2025-06-18", ["text", "text", "image", "audio", "resource_link", "resource_link"]),
    ],
)
async def test_an_older_client_is_sent_a_line_of_text_for_what_it_does_not_know(
    service_url: str,
    database: Database,
    make_job: JobFactory,
    run_driver: RunDriver,
    version: str,
    kinds: list[str],
) -> None:
    """It would fail on the whole answer; its model learns of the file all the same."""
    job = await make_job_with_history(run_driver, make_job, "answered")
    picture = NewJobFile.from_content("a.png", PNG, "image/png")
    await leave_files(database, job, picture, NewJobFile.from_content("b.wav", WAV, "audio/wav"))

    params = {"name": "job_result", "arguments": {"job_id": job_handle(job)}}
    answer = await post_message(service_url, "tools/call", params, mcp_protocol_version=version)

    blocks = answer.json()["result"]["content"]
    assert [block["type"] for block in blocks] == kinds
    link = blocks[4]
    assert "/files/" in (link["text"] if link["type"] == "text" else link["uri"])
    if link["type"] == "text":
        assert link["text"].startswith("a.png (image/png, 2.0 kB): http")


async def test_many_files_are_read_page_by_page(
    service_url: str, database: Database, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """No reply is too large, whatever the files are called, and none is left out."""
    job = await make_job_with_history(run_driver, make_job, "succeeded")
    names = [f"{number:03} {HOSTILE[:900]}".replace("\x01", "") for number in range(30)]
    await leave_files(
        database, job, *(NewJobFile(name, 1, uri="hf://buckets/ada/jobs/x/y") for name in names)
    )
    seen: list[str] = []
    arguments: dict[str, Any] = {"job_id": job_handle(job)}

    while True:
        answer = await call_tool(service_url, "job_result", **arguments)
        assert answer.structured_content is not None
        seen += [file["name"] for file in answer.structured_content["files"]]
        assert len(find_links(answer)) == len(answer.structured_content["files"])
        assert count_text_bytes(answer) < MAX_REPLY_BYTES
        if (cursor := answer.structured_content["next_cursor"]) is None:
            break
        assert f"cursor={cursor}) for more files" in answer_text(answer)
        arguments["cursor"] = cursor

    assert sorted(seen) == sorted(names)


async def test_a_long_answer_with_many_files_says_how_to_read_on_in_both(
    service_url: str, database: Database, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """Each goes on by an argument of its own, and a host may show the text alone."""
    job = await answer_call(run_driver, make_job, {"text": HOSTILE, "model": "m/m"})
    names = [f"{number:03} {HOSTILE[:900]}".replace("\x01", "") for number in range(30)]
    await leave_files(
        database, job, *(NewJobFile(name, 1, uri="hf://buckets/ada/jobs/x/y") for name in names)
    )

    answer = await call_tool(service_url, "job_result", job_id=job_handle(job))

    view = answer.structured_content
    assert view is not None
    assert None not in (view["next_offset"], view["next_cursor"])
    assert f"offset={view['next_offset']}) for what follows" in answer_text(answer)
    assert f"cursor={view['next_cursor']}) for more files" in answer_text(answer)


async def test_the_log_of_a_failed_command_fits_whatever_it_printed(
    service_url: str, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """Its last line is in the text in any case."""
    job = await make_job()
    run_id = await run_driver.start_run()
    await run_driver.append_log(run_id, *[HOSTILE[:9000].replace("\n", " ")] * 30, "KeyError: 'a'")
    await run_driver.end_run(
        run_id, RunResult(JobState.FAILED, "ERROR", Reason.EXIT_NONZERO, "boom", 3)
    )

    answer = await call_tool(service_url, "job_result", job_id=job_handle(job))

    assert count_text_bytes(answer) < MAX_REPLY_BYTES
    assert answer_text(answer).endswith("KeyError: 'a'")
