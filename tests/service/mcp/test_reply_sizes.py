"""Every reply fits what a host hands to its model."""

from typing import Any

import pytest

from schema.db.database import Database
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState, Reason
from service.views.pages import DEFAULT_REPLY_BYTES, MAX_REPLY_BYTES
from tests.support.factories import JobFactory
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import RunDriver
from tests.support.mcp.client import post_message


async def read_reply(url: str, tool: str, **arguments: Any) -> tuple[dict[str, Any], int]:
    """Call a tool; return its result, and how many bytes the reply has."""
    answer = await post_message(url, "tools/call", {"name": tool, "arguments": arguments})
    result: dict[str, Any] = answer.json()["result"]
    return result, len(answer.content)


@pytest.fixture
async def failed_jobs(make_job: JobFactory, database: Database) -> list[str]:
    """Ten jobs that failed after they had printed long lines."""
    run_driver, handles = RunDriver(database), list[str]()
    for number in range(10):
        handles.append(job_handle(await make_job(title="t" * 80)))
        run_id = await run_driver.start_run(remote_id=f"{number:024x}")
        await run_driver.append_log(run_id, *(f"{'E' * 600} {line}" for line in range(30)))
        ending = RunResult(JobState.FAILED, "ERROR", Reason.EXIT_NONZERO, "boom", 1)
        await run_driver.end_run(run_id, ending)
    return handles


@pytest.mark.parametrize("tool", ["list_jobs", "job_status", "wait_for_jobs"])
async def test_several_jobs_are_shown_in_brief(
    service_url: str, failed_jobs: list[str], tool: str
) -> None:
    """What one of them printed is one call away; ten of them took 114 kB."""
    arguments = {} if tool == "list_jobs" else {"job_ids": failed_jobs}

    result, size = await read_reply(service_url, tool, **arguments)

    jobs = result["structuredContent"]["jobs"]
    assert size <= DEFAULT_REPLY_BYTES // 2
    assert {job["job_id"] for job in jobs} == set(failed_jobs)
    for job in jobs:
        assert (job["state"], job["reason"]) == ("failed", "exit_nonzero")
        assert job["summary"].startswith("Failed: ")
        assert job["next_step"] == f'Call job_status(job_ids="{job["job_id"]}") for what to change.'
        assert len(job["log_tail"]) == 1
        assert job["job_id"] in result["content"][-1]["text"]


async def test_one_job_is_shown_whole(service_url: str, failed_jobs: list[str]) -> None:
    """The end of its log is what a model needs to mend it."""
    result, size = await read_reply(service_url, "job_status", job_ids=failed_jobs[0])

    [job] = result["structuredContent"]["jobs"]
    assert job["log_tail"][-1].endswith(" 29")
    assert len(job["log_tail"]) > 5
    assert job["labels"] == {}
    assert size <= DEFAULT_REPLY_BYTES


async def test_a_page_that_would_be_too_large_ends_earlier(service_url: str) -> None:
    """Its cursor leads to what follows, so each entry is seen once."""
    names = [f"{number:03}{'😀' * 97}" for number in range(120)]
    for name in names:
        await read_reply(service_url, "create_workspace", name=name)

    seen, cursor, lengths = list[str](), None, list[int]()
    while not seen or cursor is not None:
        arguments: dict[str, Any] = {"cursor": cursor} if cursor else {}
        result, size = await read_reply(service_url, "list_workspaces", limit=100, **arguments)
        page = result["structuredContent"]
        cursor = page["next_cursor"]
        assert size <= MAX_REPLY_BYTES
        assert cursor is None or f'cursor="{cursor}"' in result["content"][0]["text"]
        lengths.append(len(page["workspaces"]))
        seen += [workspace["name"] for workspace in page["workspaces"]]

    assert seen == names[::-1]
    assert 20 < lengths[0] < 100
