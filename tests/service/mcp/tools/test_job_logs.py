"""The promises of job_logs: each line once, in order; and never more than was asked for."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import replace
from typing import Any, Final

import anyio.from_thread
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from schema.artifacts.log_store import MAX_LINE_BYTES
from schema.db.database import Database
from schema.jobs import queries as job_queries
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState, Reason
from schema.settings import Settings
from service.jobs.logs import MAX_PAGE_BYTES, LogQuery
from service.jobs.logs import read_log_page as read_page
from service.views.jobs import LogLine
from service.views.text import count_json_bytes
from tests.support.factories import JobFactory
from tests.support.http_clients import AsyncHttpClient
from tests.support.hub.log_hub import LogHub, run_log_hub
from tests.support.jobs import log_capture
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import RunDriver
from tests.support.mcp.client import answer_text, call_for_result, call_tool
from tests.support.paths import REPOSITORY
from tests.support.subjects import ADA_ID, ADA_TOKEN

LINE_COUNT: Final = int(os.environ.get("HOLDFAST_TEST_LOG_LINES", "60000"))
"""Lines of the long log; a million takes a minute or two."""


@pytest.fixture
def run_driver(database: Database) -> RunDriver:
    """A worker on the test's database."""
    return RunDriver(database)


@pytest.fixture
def long_log_hub() -> Generator[LogHub]:
    """A Hub whose one job has printed more than anybody reads."""
    with run_log_hub() as hub:
        hub.line_count, hub.format_line = LINE_COUNT, lambda number: f"step {number} of many"
        yield hub


@pytest.fixture
async def read_log_page(service_url: str) -> AsyncGenerator[Callable[..., Any]]:
    """Ask for pages over one connection."""
    headers = {
        "authorization": f"Bearer {ADA_TOKEN}",
        "accept": "application/json, text/event-stream",
    }
    async with AsyncHttpClient(headers=headers, timeout=30) as http:

        async def ask(**arguments: Any) -> dict[str, Any]:
            params = {"name": "job_logs", "arguments": arguments}
            message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            answer = await http.post(f"{service_url}/mcp", json=message)
            result: dict[str, Any] = answer.json()["result"]
            return result

        yield ask


def measure_result(result: dict[str, Any]) -> tuple[int, int]:
    """Count what a client gets to read, as text and as an object."""
    words = "\n".join(part["text"] for part in result["content"])
    written = json.dumps(result["structuredContent"], separators=(",", ":"), ensure_ascii=False)
    return len(words.encode()), len(written.encode())


async def test_each_line_of_a_long_log_is_read_once_although_workers_were_killed(
    read_log_page: Callable[..., Any],
    make_settings: Callable[..., Settings],
    vault_keys: str,
    make_job: JobFactory,
    run_driver: RunDriver,
    long_log_hub: LogHub,
) -> None:
    """Killed between two chunks, in the middle of one, and while it reads again what is kept."""
    handle, known = job_handle(await make_job()), make_settings()
    await run_driver.start_run()
    environment = os.environ | {
        "HOLDFAST_DATABASE_URL": str(known.database_url),
        "HOLDFAST_REDIS_URL": str(known.redis_url),
        "HOLDFAST_VAULT_KEYS": vault_keys,
        "HOLDFAST_HUB_URL": long_log_hub.url,
    }
    codes: list[int | None] = []
    for failpoint in ("log.committed:9:kill", "log.written:7:kill", ""):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", log_capture.__name__),
            env=environment | {"HOLDFAST_FAILPOINT": failpoint},
            cwd=REPOSITORY,
        )
        codes.append(await process.wait())

    read, cursor, replies = list[str](), 0, 0
    while cursor < LINE_COUNT:
        result = await read_log_page(job_id=handle, cursor=cursor, limit=2000, max_bytes=200_000)
        page = result["structuredContent"]
        assert max(measure_result(result)) <= MAX_PAGE_BYTES
        assert [line["number"] for line in page["lines"]] == list(
            range(cursor, page["next_cursor"])
        )
        read += [line["text"] for line in page["lines"]]
        cursor, replies = page["next_cursor"], replies + 1

    assert codes == [-signal.SIGKILL, -signal.SIGKILL, 0]
    assert read == [f"step {number} of many" for number in range(LINE_COUNT)]
    assert replies <= LINE_COUNT / 600 + 1


@pytest.mark.parametrize("max_bytes", [1000, 1500, 6000])
@pytest.mark.parametrize("extra", [{}, {"tail": 300}, {"grep": "x"}, {"cursor": 3}])
async def test_no_reply_is_larger_than_was_asked_for(
    read_log_page: Callable[..., Any],
    make_job: JobFactory,
    run_driver: RunDriver,
    max_bytes: int,
    extra: dict[str, Any],
) -> None:
    """As text and as an object, whatever the lines are made of."""
    handle = job_handle(await make_job())
    lines = ["\x1b[0m" * 50, "x" * 16_000, '"\\' * 300, "", "é😀\u2028x" * 900, *["x"] * 400]
    run_id = await run_driver.start_run()
    await run_driver.append_log(run_id, *lines)
    await run_driver.end_run(run_id, RunResult(JobState.SUCCEEDED, "COMPLETED", exit_code=0))

    cursor, numbers = extra.get("cursor", 0), list[int]()
    for _ in range(600):
        more = extra if "tail" in extra else {**extra, "cursor": cursor}
        result = await read_log_page(job_id=handle, max_bytes=max_bytes, **more)
        page = result["structuredContent"]
        assert max(measure_result(result)) <= max_bytes
        numbers += [line["number"] for line in page["lines"]]
        if page["complete"]:
            break
        assert page["next_cursor"] > cursor
        cursor = page["next_cursor"]

    expected = [n for n, line in enumerate(lines) if "grep" not in extra or "x" in line]
    if "tail" in extra:
        assert numbers == list(range(len(lines) - len(numbers), len(lines)))
        assert len(numbers) >= 9
    else:
        assert numbers == [number for number in expected if number >= extra.get("cursor", 0)]


async def test_a_line_that_does_not_fit_is_cut_and_read_past(
    service_url: str, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """A line without an end does not stop whoever reads on; and says how to see more of it."""
    handle = job_handle(await make_job())
    await run_driver.append_log(await run_driver.start_run(), f"{'x' * 5000}the end", "y" * 100)

    first = await call_for_result(service_url, "job_logs", job_id=handle, max_bytes=1000)
    second = await call_for_result(service_url, "job_logs", job_id=handle, max_bytes=1000, cursor=1)
    whole = await call_for_result(service_url, "job_logs", job_id=handle, max_bytes=10_000)

    beginning, _, end = first["lines"][0]["text"].partition(" … [cut: ask for more max_bytes] … ")
    assert (set(beginning), set(end.removesuffix("the end"))) == ({"x"}, {"x"})
    assert end.endswith("the end")
    assert [line["text"][0] for line in second["lines"]] == ["y"]
    assert (first["next_cursor"], second["next_cursor"]) == (1, 2)
    assert whole["lines"][0]["text"] == f"{'x' * 5000}the end"


def repeat_text(piece: str, size_bytes: int) -> str:
    """Make a line of so many bytes at most."""
    return piece * (size_bytes // len(piece.encode()))


LONG_LINES: Final[SearchStrategy[str]] = st.builds(
    repeat_text,
    st.sampled_from(["x", "é", "😀", '"', "\\", "\x01", "\u2028", "ab "]),
    st.integers(0, 60) | st.integers(0, MAX_LINE_BYTES),
)
LOG_QUERIES: Final[SearchStrategy[LogQuery]] = st.builds(
    LogQuery,
    cursor=st.just(0),
    tail=st.none(),
    grep=st.sampled_from([None, None, "x", "b a"]),
    limit=st.integers(1, 2000),
    max_bytes=st.integers(1000, 200_000),
)


async def test_each_line_is_read_once_whatever_the_lines_and_the_pages_are(
    database: Database, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """In order, and a line that no page holds with its beginning and its end."""

    job = await make_job()
    run_id = await run_driver.start_run()

    async def replace_lines(lines: list[str]) -> None:
        async with database.transaction() as tx:
            await tx.execute("DELETE FROM log_chunk")
            await tx.execute("DELETE FROM job_log")
            await tx.execute("UPDATE remote_run SET log_lines = 0")
        await run_driver.append_log(run_id, *lines)

    async def read_by_cursor(query: LogQuery) -> list[LogLine]:
        read = list[LogLine]()
        async with database.transaction() as tx:
            status = await job_queries.get_job_status(tx, ADA_ID, job.id)
            assert status is not None
            while True:
                view, _, text = await read_page(tx, status, query)
                sizes = count_json_bytes(text), count_json_bytes(view.model_dump(mode="json"))
                assert max(sizes) <= min(query.max_bytes, MAX_PAGE_BYTES)
                assert len(view.lines) <= query.limit
                read += view.lines
                if view.next_cursor >= view.length:
                    return read
                assert view.next_cursor > query.cursor
                query = replace(query, cursor=view.next_cursor)

    @given(st.lists(LONG_LINES, min_size=1, max_size=6), LOG_QUERIES)
    def read_each_line_once(lines: list[str], query: LogQuery) -> None:
        anyio.from_thread.run(replace_lines, lines)

        read = anyio.from_thread.run(read_by_cursor, query)

        expected = [n for n, line in enumerate(lines) if query.grep is None or query.grep in line]
        assert [line.number for line in read] == expected
        for line in read:
            beginning, mark, end = line.text.partition(query.cut_mark)
            whole = lines[line.number]
            assert whole.startswith(beginning)
            assert whole.endswith(end) if mark else whole == beginning
            assert not mark or beginning

    await anyio.to_thread.run_sync(read_each_line_once)


async def test_lines_are_found_by_what_stands_in_them(
    service_url: str, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """Their numbers say where to read on from; nothing in the text is special."""
    handle = job_handle(await make_job())
    lines = [f"step {number}" for number in range(3000)]
    lines[7], lines[1500], lines[2999] = "ERROR: 100% (a)", "an error", "Error: 100% (b)"
    await run_driver.append_log(await run_driver.start_run(), *lines)

    answer = await call_tool(service_url, "job_logs", job_id=handle, grep="error", limit=2)
    view: dict[str, Any] = answer.structured_content or {}
    after = await call_for_result(
        service_url, "job_logs", job_id=handle, grep="ERROR", cursor=view["next_cursor"]
    )
    odd = await call_for_result(service_url, "job_logs", job_id=handle, grep="0% (")
    none = await call_for_result(service_url, "job_logs", job_id=handle, grep="_")

    assert answer_text(answer).endswith("7: ERROR: 100% (a)\n1500: an error")
    assert (view["next_cursor"], view["complete"]) == (1501, False)
    assert [line["number"] for line in after["lines"]] == [2999]
    assert [line["number"] for line in odd["lines"]] == [7, 2999]
    assert (none["lines"], none["next_cursor"]) == ([], 3000)


async def test_what_is_not_kept_of_a_log_is_said(
    service_url: str, database: Database, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """A gap that nobody is told of would be read as what happened."""
    handle = job_handle(await make_job())
    await run_driver.append_log(
        await run_driver.start_run(), *(str(number) for number in range(10))
    )
    async with database.transaction() as tx:
        await tx.execute("UPDATE job_log SET length = 30, tail_start = 20")

    answer = await call_tool(service_url, "job_logs", job_id=handle)

    assert answer_text(answer).startswith("Lines 0 to 9 of 30. Lines 10 to 19 were not kept.")
    assert (answer.structured_content or {})["not_kept"] == 10


async def test_one_line_is_called_a_line(
    service_url: str, database: Database, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """Of the lines shown, and of those that were dropped."""
    handle = job_handle(await make_job())
    await run_driver.append_log(await run_driver.start_run(), "only")
    async with database.transaction() as tx:
        await tx.execute("UPDATE job_log SET length = 3, tail_start = 2")

    answer = await call_tool(service_url, "job_logs", job_id=handle, limit=1)

    assert answer_text(answer).startswith("Line 0 of 3. Line 1 was not kept.")


@pytest.mark.parametrize("place", [{}, {"cursor": 2}, {"tail": 1}, {"grep": "b"}])
async def test_a_log_read_to_its_end_never_advises_the_call_that_was_just_made(
    service_url: str, make_job: JobFactory, run_driver: RunDriver, place: dict[str, Any]
) -> None:
    """While the job runs the new lines are next; where there were none, the wait for them is."""
    handle = job_handle(await make_job())
    await run_driver.append_log(await run_driver.start_run(), "a", "b", "c")
    search = ', grep="b"' if "grep" in place else ""

    read = await call_for_result(service_url, "job_logs", job_id=handle, **place)
    place = {name: text for name, text in place.items() if name == "grep"}
    again = await call_for_result(service_url, "job_logs", job_id=handle, cursor=3, **place)

    assert read["next_step"].startswith(f'Call job_logs(job_id="{handle}", cursor=3{search}) in ')
    assert again["next_step"] == f'Call wait_for_jobs(job_ids="{handle}", until="terminal").'


async def test_a_search_that_goes_on_is_advised_as_the_same_search(
    service_url: str, make_job: JobFactory, run_driver: RunDriver
) -> None:
    """Without its text the call would show other lines."""
    handle = job_handle(await make_job())
    await run_driver.append_log(await run_driver.start_run(), 'a "b"', 'a "b"', "c")

    view = await call_for_result(service_url, "job_logs", job_id=handle, grep='"b"', limit=1)

    assert view["next_step"] == (
        f'Call job_logs(job_id="{handle}", cursor=1, grep="\\"b\\"") for the lines that follow.'
    )


@pytest.mark.parametrize("place", [{}, {"tail": 200}, {"grep": "no such text"}])
@pytest.mark.parametrize("last_line", ["nothing to go by", "KeyError: 'loss'"])
async def test_the_log_of_a_failed_job_says_what_to_correct_and_not_to_read_the_log(
    service_url: str,
    make_job: JobFactory,
    run_driver: RunDriver,
    place: dict[str, Any],
    last_line: str,
) -> None:
    """It has just been read; job_status, whose caller has not, advises to read it."""
    handle = job_handle(await make_job())
    run_id = await run_driver.start_run()
    await run_driver.append_log(run_id, "a", last_line)
    await run_driver.end_run(
        run_id, RunResult(JobState.FAILED, "ERROR", Reason.EXIT_NONZERO, "boom", 3)
    )

    view = await call_for_result(service_url, "job_logs", job_id=handle, **place)
    [status] = (await call_for_result(service_url, "job_status", job_ids=handle))["jobs"]

    assert view["complete"]
    assert "log" not in view["next_step"]
    assert view["next_step"].startswith("Correct the command, then ")
    assert "job_logs(" in status["next_step"]


async def test_an_end_is_not_asked_for_along_with_a_place(
    service_url: str, make_job: JobFactory
) -> None:
    """Either would have to be ignored."""
    handle = job_handle(await make_job())

    assert "goes with neither" in answer_text(
        await call_tool(service_url, "job_logs", job_id=handle, tail=2, grep="x")
    )
