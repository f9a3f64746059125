"""A launch that waits for others is refused where it would wait for what can never come."""

from typing import Any

import pytest

from schema.db.database import Database
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState, Reason
from tests.support.factories import JobFactory
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import RunDriver
from tests.support.mcp.client import answer_text, call_for_result, call_tool

LAUNCH_ARGUMENTS: dict[str, dict[str, Any]] = {
    "launch_job": {"image": "python:3.12", "command": "true"},
    "launch_inference": {"model": "m/m", "inputs": "Hi"},
}


async def count_jobs(database: Database) -> int:
    async with database.transaction() as tx:
        count: int = await tx.fetchval("SELECT count(*) FROM job")
    return count


@pytest.mark.parametrize("tool", LAUNCH_ARGUMENTS)
async def test_a_launch_waits_for_the_jobs_it_names(
    service_url: str, database: Database, make_job: JobFactory, tool: str
) -> None:
    """It says so at once, by `hold`, by name, and when it is looked at later; one name will do."""
    parent = job_handle((await make_job()).id)

    launched = await call_for_result(
        service_url, tool, **LAUNCH_ARGUMENTS[tool], after=parent, on="Finish"
    )

    assert (launched["state"], launched["hold"]) == ("queued", "dependency")
    assert launched["after"] == [parent]
    assert launched["summary"] == f"Queued until {parent} has finished."
    [later] = (await call_for_result(service_url, "job_status", job_ids=launched["job_id"]))["jobs"]
    assert later["summary"] == launched["summary"]


@pytest.mark.parametrize("tool", LAUNCH_ARGUMENTS)
@pytest.mark.parametrize(
    ("after", "message"),
    [
        ("job_00000000000000000000000001", "no job"),
        ("ws_00000000000000000000000001", "is a workspace"),
        ("yesterday", "is not a job handle"),
        (["job_00000000000000000000000001"] * 21, "at most 20"),
        (7, "after"),
    ],
)
async def test_what_cannot_be_waited_for_is_refused(
    service_url: str, database: Database, tool: str, after: Any, message: str
) -> None:
    """Nothing is launched that would never begin, and a rehearsal says so as well."""
    for rehearsed in (False, True):
        arguments: dict[str, Any] = {**LAUNCH_ARGUMENTS[tool], "after": after, "dry_run": rehearsed}
        answer = await call_tool(service_url, tool, **arguments)

        assert answer.is_error
        assert message in answer_text(answer)
    assert await count_jobs(database) == 0


async def test_a_launch_after_a_job_that_has_failed_is_refused_unless_any_end_will_do(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """It would fail at once; the answer says what to do instead."""
    job = await make_job()
    worker = RunDriver(database)
    await worker.end_run(await worker.start_run(), RunResult(JobState.FAILED, "ERROR", Reason.OOM))
    parent = job_handle(job.id)

    answer = await call_tool(
        service_url, "launch_job", **LAUNCH_ARGUMENTS["launch_job"], after=[parent]
    )
    arguments = LAUNCH_ARGUMENTS["launch_job"] | {"after": parent, "on": "finish"}
    launched = await call_for_result(service_url, "launch_job", **arguments)

    assert answer.is_error
    assert f"{parent} is failed" in answer_text(answer)
    assert 'on="finish"' in answer_text(answer)
    assert (launched["hold"], launched["after"]) == (None, [parent])
