"""The inbox of a client that comes back: what has ended since it last looked, and nothing else."""

from typing import Any

import pytest

from schema.common import ids
from schema.common.ids import HandleKind
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.run_end import RunResult
from schema.jobs.tables import Job, JobState
from tests.support.factories import JobFactory
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import RunDriver
from tests.support.mcp.client import answer_text, call_for_result, call_tool, read_refusal
from tests.support.subjects import ADA_ID


async def cancel(database: Database, *jobs: Job) -> None:
    for job in jobs:
        async with database.transaction() as tx:
            assert await lifecycle.cancel_job(tx, job.id, subject_id=ADA_ID)


async def list_unseen(url: str, **arguments: Any) -> tuple[list[str], str | None]:
    page = await call_for_result(url, "list_jobs", unseen=True, **arguments)
    return [job["job_id"] for job in page["jobs"]], page["next_cursor"]


async def read_inbox(database: Database) -> list[str]:
    async with database.transaction() as tx:
        return [
            row["row"] for row in await tx.fetch("SELECT unseen_job::text AS row FROM unseen_job")
        ]


async def test_what_has_ended_is_listed_until_its_page_is_acknowledged(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """An answer that is lost loses nothing; a page that is acknowledged does not come back."""
    first, second, _open = [await make_job() for _ in range(3)]
    assert await list_unseen(service_url) == ([], None)
    await cancel(database, first, second)
    ended = [job_handle(second), job_handle(first)]

    shown, lost_cursor = await list_unseen(service_url)
    again, cursor = await list_unseen(service_url)

    assert (shown, again) == (ended, ended)
    assert cursor == lost_cursor
    assert await list_unseen(service_url, cursor=cursor) == ([], None)
    assert await list_unseen(service_url) == ([], None)


async def test_what_ends_while_a_page_is_read_is_on_the_next_one(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """The acknowledgement is of what was shown, not of all that is older."""
    older, newer = [await make_job() for _ in range(2)]
    await cancel(database, newer)
    _, cursor = await list_unseen(service_url)
    await cancel(database, older)

    shown, cursor = await list_unseen(service_url, cursor=cursor)

    assert shown == [job_handle(older)]
    assert await list_unseen(service_url, cursor=cursor) == ([], None)


async def test_pages_follow_until_nothing_is_left(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """Each call acknowledges the page before it."""
    jobs = [await make_job() for _ in range(5)]
    await cancel(database, *jobs)
    shown: list[str] = []
    page, cursor = await list_unseen(service_url, limit=2)
    while page:
        shown += page
        page, cursor = await list_unseen(service_url, limit=2, cursor=cursor)

    assert shown == [job_handle(job) for job in reversed(jobs)]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("job_status", {"job_ids": "{}"}),
        ("job_result", {"job_id": "{}"}),
        ("wait_for_jobs", {"job_ids": "{}", "until": "terminal"}),
        ("cancel_job", {"job_id": "{}"}),
    ],
)
async def test_a_job_that_was_shown_by_its_handle_is_seen(
    service_url: str,
    database: Database,
    make_job: JobFactory,
    tool: str,
    arguments: dict[str, str],
) -> None:
    """Whoever names a job knows of it, and asks again if an answer is lost."""
    job, other = await make_job(), await make_job()
    await cancel(database, job, other)

    await call_for_result(
        service_url,
        tool,
        **{name: value.format(job_handle(job)) for name, value in arguments.items()},
    )

    assert (await list_unseen(service_url))[0] == [job_handle(other)]


async def test_a_job_that_is_looked_at_before_its_end_is_not_seen(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """The news is the end, and nobody has seen that."""
    job = await make_job()
    await call_for_result(service_url, "job_status", job_ids=job_handle(job))
    await call_for_result(service_url, "list_jobs")
    run_driver = RunDriver(database)
    await run_driver.end_run(
        await run_driver.start_run(), RunResult(JobState.SUCCEEDED, "COMPLETED")
    )

    assert (await list_unseen(service_url))[0] == [job_handle(job)]


async def test_a_wait_for_a_workspace_leaves_its_jobs_unseen(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """It names no job, and the next one shows those that are open: a lost answer loses the end."""
    workspace = (await call_for_result(service_url, "create_workspace", name="w"))["workspace_id"]
    job = await make_job(workspace_id=ids.parse_handle(HandleKind.WORKSPACE, workspace))
    await RunDriver(database).start_run()
    await cancel(database, job)

    waited = await call_for_result(
        service_url, "wait_for_jobs", workspace_id=workspace, timeout_seconds=0.1
    )

    assert [each["state"] for each in waited["jobs"]] == ["cancelled"]
    assert (await list_unseen(service_url))[0] == [job_handle(job)]


async def test_the_inbox_is_narrowed_like_any_list(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """And acknowledging a narrowed page leaves the rest unseen."""
    nlp, other = await make_job(labels={"team": "nlp"}), await make_job()
    await cancel(database, nlp, other)

    shown, cursor = await list_unseen(service_url, labels={"team": "nlp"})
    await list_unseen(service_url, labels={"team": "nlp"}, cursor=cursor)

    assert shown == [job_handle(nlp)]
    assert (await list_unseen(service_url))[0] == [job_handle(other)]


async def test_nobody_sees_or_acknowledges_the_news_of_another(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """A cursor is no authority, as a handle is none."""
    job = await make_job()
    await cancel(database, job)
    _, cursor = await list_unseen(service_url)

    assert await list_unseen(service_url, caller_token="hf_bob") == ([], None)
    assert await list_unseen(service_url, caller_token="hf_bob", cursor=cursor) == ([], None)
    assert (await list_unseen(service_url))[0] == [job_handle(job)]


async def test_idle_reads_of_the_inbox_write_nothing(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """A client that polls costs reads only (I9), whether there is news or none."""
    job = await make_job()
    await cancel(database, job)
    await list_unseen(service_url)
    before = await read_inbox(database)

    for _ in range(3):
        await list_unseen(service_url)

    assert await read_inbox(database) == before
    for _ in range(2):
        await call_for_result(service_url, "job_status", job_ids=job_handle(job))
    assert await read_inbox(database) == []


async def test_a_cursor_of_another_list_is_refused_with_the_reason(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """It would acknowledge nothing, and the caller would believe that it had."""
    refusal = read_refusal(
        await call_tool(service_url, "list_jobs", unseen=True, cursor=job_handle(await make_job()))
    )

    assert refusal["code"] == "Invalid"
    assert "next_cursor of an answer to unseen=true" in refusal["message"]


async def test_the_text_says_how_to_mark_a_page_as_seen(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """Many hosts hand a model nothing else."""
    await cancel(database, await make_job())

    answer = await call_tool(service_url, "list_jobs", unseen=True)

    _, cursor = await list_unseen(service_url)
    assert f'list_jobs(unseen=true, cursor="{cursor}")' in answer_text(answer)
