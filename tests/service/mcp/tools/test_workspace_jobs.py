"""One call for all open jobs of a workspace: cancel them, wait for them."""

import asyncio
from typing import Any

import anyio
import pytest

from schema.common import ids
from schema.common.ids import HandleKind
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobKind, JobState
from service.mcp.tools.arguments import MAX_JOB_IDS
from tests.schema.jobs.test_races import wait_until_blocked
from tests.support.factories import JobFactory
from tests.support.hub.fake_hub import FakeHub, whoami_answer
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import RunDriver
from tests.support.mcp.client import answer_text, call_for_result, call_tool, read_refusal
from tests.support.mcp.valid_arguments import REQUIRED_ARGUMENTS, UNKNOWN_HANDLES
from tests.support.subjects import ADA_ID, BOB_TOKEN

pytestmark = pytest.mark.usefixtures("ada_id")


@pytest.fixture
async def workspace(service_url: str) -> str:
    """Return the handle of an empty workspace of Ada's."""
    made = await call_for_result(service_url, "create_workspace", name="sweep")
    handle: str = made["workspace_id"]
    return handle


def into(workspace: str) -> dict[str, Any]:
    return {"workspace_id": ids.parse_handle(HandleKind.WORKSPACE, workspace)}


async def read_states(url: str) -> dict[str, str]:
    jobs = (await call_for_result(url, "list_jobs", limit=100))["jobs"]
    return {job["job_id"]: job["state"] for job in jobs}


async def test_one_call_cancels_every_open_job_of_a_workspace(
    service_url: str, workspace: str, database: Database, make_job: JobFactory
) -> None:
    """What runs is stopped and may cost until then; other jobs, and those that ended, are left."""
    run_driver = RunDriver(database)
    ended = await make_job(**into(workspace))
    await run_driver.end_run(
        await run_driver.start_run(remote_id="1" * 24), RunResult(JobState.SUCCEEDED, "COMPLETED")
    )
    running = await make_job(**into(workspace))
    await run_driver.start_run()
    queued = [await make_job(**into(workspace)) for _ in range(3)]
    outside = await make_job()

    answer = await call_tool(service_url, "cancel_job", workspace_id=workspace)

    view, text = answer.structured_content, answer_text(answer)
    assert view is not None
    assert (view["cancelled"], view["stopping"], view["open_jobs"]) == (4, 1, 0)
    assert view["next_step"].startswith(f'Call wait_for_jobs(workspace_id="{workspace}"')
    assert f"4 jobs of {workspace} (sweep) are cancelled, for good." in text
    assert "What 1 job started at Hugging Face is being stopped, and may still cost money" in text
    states = await read_states(service_url)
    assert {states[job_handle(job)] for job in (running, *queued)} == {"cancelled"}
    assert (states[job_handle(ended)], states[job_handle(outside)]) == ("succeeded", "queued")
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT queued FROM subject WHERE id = $1", ADA_ID) == 1
        assert await tx.fetchval("SELECT count(*) FROM remote_run WHERE desired = 'dead'") == 1
        assert (
            await tx.fetchval(
                "SELECT count(*) FROM job_event WHERE kind = 'cancelled' AND actor = $1", ADA_ID
            )
            == 4
        )


async def test_a_second_cancel_of_a_workspace_finds_nothing_and_is_harmless(
    service_url: str, workspace: str, make_job: JobFactory
) -> None:
    """A model repeats itself; the answer says that nothing was open."""
    await make_job(**into(workspace))
    await call_for_result(service_url, "cancel_job", workspace_id=workspace)

    view = await call_for_result(service_url, "cancel_job", workspace_id=workspace)

    assert (view["cancelled"], view["open_jobs"]) == (0, 0)
    assert view["next_step"] == "Nothing is left to do."


async def test_more_jobs_than_a_batch_are_all_cancelled(
    service_url: str, workspace: str, database: Database, make_job: JobFactory
) -> None:
    """Two calls at once cancel each job once between them, and neither waits for ever."""
    await make_job(**into(workspace))
    async with database.transaction() as tx:  # the rows of 129 more, in the place of as many calls
        await tx.execute(
            "WITH made AS (INSERT INTO job (id, subject_id, workspace_id, kind, namespace, title)"
            " SELECT gen_random_uuid(), subject_id, workspace_id, kind, namespace, title"
            " FROM job, generate_series(1, 129) RETURNING id, subject_id),"
            " payload AS (INSERT INTO job_payload (job_id, spec)"
            " SELECT made.id, spec FROM made, job_payload),"
            " event AS (INSERT INTO job_event (job_id, version, kind, state, actor)"
            " SELECT id, 1, 'created', 'queued', subject_id FROM made)"
            " UPDATE subject SET queued = queued + 129"
        )

    answers = await asyncio.gather(
        *(call_for_result(service_url, "cancel_job", workspace_id=workspace) for _ in range(2))
    )

    assert sum(view["cancelled"] for view in answers) == 130
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job WHERE finished_at IS NULL") == 0
        assert await tx.fetchval("SELECT count(*) FROM job_event WHERE kind = 'cancelled'") == 130
        assert await tx.fetchval("SELECT queued FROM subject WHERE id = $1", ADA_ID) == 0


async def test_a_job_whose_launch_is_under_way_is_cancelled_too(
    service_url: str, workspace: str, database: Database, make_job: JobFactory
) -> None:
    """The cancel waits for the launch that came first, and looks again."""
    await make_job(**into(workspace))
    async with database.transaction() as tx:
        late = await lifecycle.submit_job(
            tx,
            subject_id=ADA_ID,
            kind=JobKind.HUB_JOB,
            namespace="ada",
            title="late",
            spec={"image": "python:3.12", "command": ["true"]},
            labels={},
            max_open_jobs=1000,
            **into(workspace),
        )
        cancelling = asyncio.create_task(
            call_for_result(service_url, "cancel_job", workspace_id=workspace)
        )
        await wait_until_blocked(database)

    view = await cancelling

    assert (view["cancelled"], view["open_jobs"], view["not_cancelled"]) == (2, 0, [])
    assert (await read_states(service_url))[job_handle(late)] == "cancelled"


async def test_what_the_token_may_not_cancel_goes_on_and_the_answer_says_why(
    service_url: str, workspace: str, fake_hub: FakeHub, make_job: JobFactory
) -> None:
    """A token for jobs alone reaches no call of a model, in a workspace as one by one."""
    job = await make_job(**into(workspace))
    call = await make_job(
        kind=JobKind.INFERENCE, spec={"model": "m/m", "inputs": "Hi"}, **into(workspace)
    )
    fine_grained = {
        "scoped": [{"entity": {"type": "user", "name": "ada"}, "permissions": ["job.write"]}]
    }
    fake_hub.whoami_by_token["hf_jobs"] = whoami_answer(
        ADA_ID,
        "ada",
        type="access_token",
        accessToken={"role": "fineGrained", "fineGrained": fine_grained},
    )

    answer = await call_tool(
        service_url, "cancel_job", caller_token="hf_jobs", workspace_id=workspace
    )
    again = await call_tool(
        service_url, "cancel_job", caller_token="hf_jobs", workspace_id=workspace
    )

    view = answer.structured_content
    assert view is not None
    assert (view["cancelled"], view["open_jobs"]) == (1, 1)
    [left] = view["not_cancelled"]
    assert left["job_id"] == job_handle(call)
    assert "inference-api" in left["why"]
    assert f"{left['job_id']}: {left['why']}" in answer_text(answer)
    states = await read_states(service_url)
    assert (states[job_handle(job)], states[job_handle(call)]) == ("cancelled", "queued")
    assert read_refusal(again)["code"] == "InsufficientScope"


async def test_a_cancel_says_what_goes_on_and_whom_it_reaches_outside(
    service_url: str, workspace: str, make_job: JobFactory
) -> None:
    """A schedule launches again tomorrow; a job elsewhere that waited can never begin."""
    parent = await make_job(**into(workspace))
    await make_job(parent_ids=[parent.id], **into(workspace))
    await make_job(parent_ids=[parent.id])
    work = {**REQUIRED_ARGUMENTS["create_schedule"]["job"], "workspace_id": workspace}
    for paused in (False, True):
        schedule = await call_for_result(service_url, "create_schedule", cron="@daily", job=work)
        await call_for_result(
            service_url, "update_schedule", schedule_id=schedule["schedule_id"], paused=paused
        )

    answer = await call_tool(service_url, "cancel_job", workspace_id=workspace)

    view, text = answer.structured_content, answer_text(answer)
    assert view is not None
    assert (view["cancelled"], view["schedules"], view["failing_elsewhere"]) == (2, 1, 1)
    assert "1 schedule of it goes on launching" in text
    assert "1 job outside of it waited for the success of one of them, and cannot begin." in text


@pytest.mark.parametrize(
    ("tool", "single"), [("cancel_job", "job_id"), ("wait_for_jobs", "job_ids")]
)
async def test_a_call_names_jobs_or_a_workspace_and_not_both(
    service_url: str, workspace: str, tool: str, single: str
) -> None:
    """Which of the two was meant is not guessed: one of them is for good."""
    for arguments in ({}, {single: UNKNOWN_HANDLES[single], "workspace_id": workspace}):
        refusal = read_refusal(await call_tool(service_url, tool, **arguments))

        assert refusal["code"] == "Invalid"
        assert f"either {single} or workspace_id" in refusal["message"]


async def test_a_foreign_workspace_is_neither_cancelled_nor_waited_for(
    service_url: str, workspace: str, make_job: JobFactory
) -> None:
    """Bob learns nothing of it, and stops nothing."""
    job = await make_job(**into(workspace))
    nobodys = ids.format_handle(HandleKind.WORKSPACE, ids.new_id())

    for tool in ("cancel_job", "wait_for_jobs"):
        theirs, none = [
            await call_tool(service_url, tool, caller_token=BOB_TOKEN, workspace_id=each)
            for each in (workspace, nobodys)
        ]
        assert read_refusal(none)["code"] == "NotFound"
        assert answer_text(theirs).replace(workspace, nobodys) == answer_text(none)
    assert (await read_states(service_url))[job_handle(job)] == "queued"


async def test_a_wait_for_a_workspace_ends_when_all_of_it_has_stopped(
    service_url: str, workspace: str, database: Database, make_job: JobFactory
) -> None:
    """It waits for a cancelled job too whose run is not seen to be over yet."""
    run_driver = RunDriver(database)
    await make_job(**into(workspace))
    run_id = await run_driver.start_run()
    await make_job(**into(workspace))
    await make_job()
    await call_for_result(service_url, "cancel_job", workspace_id=workspace)
    views = list[dict[str, Any]]()

    async def wait() -> None:
        views.append(
            await call_for_result(
                service_url,
                "wait_for_jobs",
                workspace_id=workspace,
                mode="all",
                until="terminal",
                timeout_seconds=40,
            )
        )

    with anyio.fail_after(30):
        async with anyio.create_task_group() as calls:
            calls.start_soon(wait)
            await run_driver.end_run(run_id, RunResult(JobState.CANCELLED, "CANCELED"))

    view = await call_for_result(service_url, "wait_for_jobs", workspace_id=workspace)
    [waited] = views
    assert (waited["done"], waited["timed_out"]) == (True, False)
    assert (view["done"], view["jobs"]) == (True, [])
    assert f"No job of {workspace} is open." in view["next_step"]


async def test_a_wait_says_of_which_open_jobs_it_has_no_room(
    service_url: str, workspace: str, database: Database, make_job: JobFactory
) -> None:
    """Those that were launched first are waited for; done is not claimed of the others."""
    jobs = [await make_job(**into(workspace)) for _ in range(MAX_JOB_IDS + 2)]
    await RunDriver(database).start_run()

    view = await call_for_result(
        service_url, "wait_for_jobs", workspace_id=workspace, timeout_seconds=0.1
    )
    async with database.transaction() as tx:
        await lifecycle.cancel_jobs(tx, [job.id for job in jobs[1:MAX_JOB_IDS]], subject_id=ADA_ID)
    rest = await call_for_result(
        service_url, "wait_for_jobs", workspace_id=workspace, timeout_seconds=0.1
    )

    assert len(view["jobs"]) == MAX_JOB_IDS
    assert view["jobs"][0]["job_id"] == job_handle(jobs[0])
    assert not view["done"]
    assert f"had {MAX_JOB_IDS + 2} open jobs, and a wait holds {MAX_JOB_IDS}" in view["notes"][0]
    assert "The other 2 were not waited for." in view["notes"][0]
    assert {job["job_id"] for job in rest["jobs"]} == {
        job_handle(job) for job in (jobs[0], *jobs[MAX_JOB_IDS:])
    }
    assert rest["notes"] == []


async def test_versions_go_with_the_jobs_that_they_are_of(service_url: str, workspace: str) -> None:
    """Which jobs a workspace will have is not known to whoever has seen versions."""
    refusal = read_refusal(
        await call_tool(
            service_url, "wait_for_jobs", workspace_id=workspace, since_version={"job_x": 1}
        )
    )

    assert (refusal["code"], refusal["message"][:31]) == (
        "Invalid",
        "since_version goes with job_ids",
    )
