"""What matters stands in the text of every answer: many hosts hand a model nothing else."""

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from mcp_types import CallToolResult, ResourceLink, TextContent

from schema.artifacts import files
from schema.artifacts.files import NewJobFile
from schema.common.money import format_usd, to_micro_usd
from schema.db.database import Database
from schema.jobs import progress
from schema.jobs.progress import JobProgress
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobKind, JobState, Reason
from tests.support.factories import JobFactory
from tests.support.hub.fake_hub import FakeHub
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import RunDriver
from tests.support.mcp.client import answer_text, call_tool, post_message
from tests.support.mcp.valid_arguments import REQUIRED_ARGUMENTS

HANDLE: Final = re.compile(r"\b(?:job|ws|sched|upload)_[0-9a-z]{26}\b")
TELLING_FIELDS: Final = {
    *("state", "reason", "hold", "exit_code", "custom_id"),
    *("next_cursor", "next_offset", "possible_duplicate_of"),
    *("exposed_urls", "ssh_url", "hub_job_id"),
    "curl",
    *("missing_scopes", "namespaces", "needs", "notes"),
    *("webhook_secret", "webhook_host", "last_status", "last_error"),
}
"""Fields whose value a model acts on, apart from handles and amounts."""
OUTSIDE_JOB_ID: Final = "6a31d7ef5ff0a6cf94f9f8ba"
RUN_TIME_FIELDS: Final = {"so_far_usd"}
"""Amounts that grow while they are read."""

Call = tuple[str, dict[str, Any]]


def read_content(answer: CallToolResult) -> str:
    """Return all words of the content of an answer, and the addresses of its links."""
    texts = [block.text for block in answer.content if isinstance(block, TextContent)]
    links = [block.uri for block in answer.content if isinstance(block, ResourceLink)]
    return "\n".join([*texts, *links])


BOUND_FIELDS: Final = {"ceiling_usd", "held_usd"}
"""Amounts that the sentences name as what it costs at most."""


def list_telling_values(value: Any, field: str = "") -> Iterator[str]:
    """Yield what of an object a model may have to know, as words."""
    match value:
        case {**fields}:
            for name, member in fields.items():
                yield from list_telling_values(member, str(name))
        case [*members]:
            for member in members:
                yield from list_telling_values(member, field)
        case _:
            yield from describe_telling_value(value, field)


def describe_telling_value(value: Any, field: str) -> Iterator[str]:
    """Yield a single value as words, if it is telling."""
    if isinstance(value, str) and HANDLE.search(value):
        yield from HANDLE.findall(value)
    elif (
        isinstance(value, float)
        and value
        and field.endswith("_usd")
        and field not in RUN_TIME_FIELDS
    ):
        yield format_usd(to_micro_usd(value), is_bound=field in BOUND_FIELDS)
    elif field == "usd_per_hour":
        yield f"${value:.2f}/h"
    elif field in TELLING_FIELDS and value is not None:
        yield str(value)


async def find_missing_values(url: str, tool: str, **arguments: Any) -> list[str]:
    """Call a tool, and return what its object says and its content does not."""
    answer = await call_tool(url, tool, **arguments)
    assert not answer.is_error, answer_text(answer)
    content = read_content(answer)
    return [
        value for value in list_telling_values(answer.structured_content) if value not in content
    ]


@pytest.fixture
async def calls(
    service_url: str, database: Database, make_job: JobFactory, fake_hub: FakeHub
) -> list[Call]:
    """A call of every tool, with something to tell: costs, parents, pages that go on."""
    for outside_id in (OUTSIDE_JOB_ID, "6a31d7ef5ff0a6cf94f9f8bb"):
        fake_hub.jobs[outside_id] = {
            "id": outside_id,
            "createdAt": "2026-11-30T12:00:00.000Z",
            "dockerImage": "python:3.12",
            "command": ["true"],
            "flavor": "cpu-basic",
            "status": {"stage": "RUNNING", "message": None},
        }
    run_driver = RunDriver(database)
    failed = job_handle(await make_job())
    run_id = await run_driver.start_run()
    await run_driver.append_log(run_id, "Traceback", "KeyError: 'loss'")
    await run_driver.end_run(
        run_id, RunResult(JobState.FAILED, "ERROR", Reason.EXIT_NONZERO, "boom", 3)
    )
    job = await make_job(kind=JobKind.INFERENCE, spec={"model": "m/m"})
    run_id = await run_driver.start_run(JobKind.INFERENCE)
    await run_driver.answer_run(
        run_id, RunResult(JobState.SUCCEEDED, "ANSWERED", result={"text": "word " * 5000})
    )
    async with database.transaction() as tx:
        await files.save_files(
            tx, job.id, [NewJobFile(f"out/{n}", n, uri="hf://buckets/ada/x/y") for n in range(30)]
        )

    async def make(tool: str, **arguments: Any) -> dict[str, Any]:
        answer = await call_tool(service_url, tool, **REQUIRED_ARGUMENTS.get(tool, {}) | arguments)
        assert answer.structured_content is not None, answer_text(answer)
        view: dict[str, Any] = answer.structured_content
        return view

    workspace = (await make("create_workspace", budget_usd=20))["workspace_id"]
    into = {"workspace_id": workspace, "flavor": "a10g-small"}
    queued = (await make("launch_job", **into, after=failed, on="finish"))["job_id"]
    cancelled = (await make("launch_job", **into, timeout="2m"))["job_id"]
    request = {**REQUIRED_ARGUMENTS["create_schedule"]["job"], **into}
    schedule = (await make("create_schedule", job=request))["schedule_id"]
    await make("create_schedule", name="another")
    await make("create_workspace", name="another")
    await make("launch_job", **REQUIRED_ARGUMENTS["rotate_webhook_secret"])
    return [
        ("launch_job", {**into, "after": queued, "labels": {"team": "nlp"}}),
        ("launch_job", {**into, "timeout": "100h", "dry_run": True}),
        ("launch_job", {}),
        ("launch_inference", {"labels": {"team": "nlp"}}),
        ("launch_inference", {"dry_run": True}),
        ("launch_space_call", {}),
        ("create_upload", {"workspace_id": workspace}),
        ("job_status", {"job_ids": failed}),
        ("job_status", {"job_ids": queued}),
        ("job_status", {"job_ids": [failed, queued, cancelled]}),
        ("list_jobs", {"limit": 2}),
        ("list_jobs", {"limit": 2, "unseen": True}),
        ("job_logs", {"job_id": failed, "limit": 1}),
        ("job_result", {"job_id": failed}),
        ("job_result", {"job_id": job_handle(job)}),
        ("cancel_job", {"job_id": cancelled}),
        ("wait_for_jobs", {"job_ids": failed}),
        ("wait_for_jobs", {"job_ids": [queued, failed]}),
        ("wait_for_jobs", {"workspace_id": workspace}),
        ("adopt_job", {"hub_job_id": OUTSIDE_JOB_ID}),
        ("list_jobs", {"outside": True}),
        ("retry_job", {"job_id": failed, "overrides": {"timeout": "1h"}}),
        ("create_workspace", {"name": "third", "budget_usd": 3}),
        ("workspace_status", {"workspace_id": workspace}),
        ("list_workspaces", {"limit": 1}),
        ("update_workspace", {"workspace_id": workspace, "confirm_above_usd": 4}),
        ("update_workspace", {"workspace_id": workspace, "webhook_url": "https://b.example.com/"}),
        ("rotate_webhook_secret", {}),
        ("archive_workspace", {"workspace_id": workspace}),
        ("cancel_job", {"workspace_id": workspace}),
        ("create_schedule", {"job": request, "dry_run": True}),
        ("list_schedules", {"limit": 1}),
        ("update_schedule", {"schedule_id": schedule, "run_now": True}),
        ("delete_schedule", {"schedule_id": schedule}),
        ("list_hardware", {}),
        ("whoami", {}),
        ("spending", {"group_by": ["workspace", "kind"]}),
    ]


async def test_every_handle_state_cost_and_cursor_is_in_the_content(
    service_url: str, calls: list[Call]
) -> None:
    """Of every tool; a new one is tried as soon as it is in the list."""
    missing: list[str] = []
    for tool, arguments in calls:
        complete = REQUIRED_ARGUMENTS.get(tool, {}) | arguments
        if values := await find_missing_values(service_url, tool, **complete):
            missing.append(f"{tool} {arguments}: {values}")

    assert not missing, "\n".join(missing)
    listed = (await post_message(service_url, "tools/list")).json()["result"]["tools"]
    assert {tool["name"] for tool in listed} == {tool for tool, _ in calls}


async def test_a_running_job_says_how_to_reach_it_and_how_far_it_is(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """Addresses, progress and cost: without them the job is of no use to whoever asks."""
    run_driver = RunDriver(database)
    handle = job_handle(await make_job())
    run_id = await run_driver.start_run()
    async with database.transaction() as tx:
        await progress.record_progress(
            tx, run_id, JobProgress(3, 10, "epoch 3"), partial="a\nb", worker="w"
        )
        await tx.execute(
            "UPDATE remote_run SET addresses = $2 WHERE id = $1",
            run_id,
            {"exposed": ["https://x--8080.hf.jobs"], "ssh": "ssh://x@ssh.hf.jobs"},
        )

    content = read_content(await call_tool(service_url, "job_status", job_ids=handle))

    assert "https://x--8080.hf.jobs" in content
    assert "ssh x@ssh.hf.jobs (ssh://x@ssh.hf.jobs)" in content
    assert "Progress: 3 of 10: epoch 3." in content
    assert "What it has yielded so far:\na\nb\n" in content
    assert "state running" in content
