"""Running a job again, over HTTP: a new handle, and a line back to the old one."""

import asyncio
from typing import Any

from schema.common import ids
from schema.common.ids import HandleKind
from schema.db.database import Database
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobKind, JobState, Reason
from tests.support.factories import JobFactory
from tests.support.hub.fake_hub import FakeHub
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import RunDriver, make_job_with_history
from tests.support.mcp.client import answer_text, call_for_result, call_tool, read_refusal
from tests.support.subjects import ADA_ID

OOM_RESULT = RunResult(JobState.FAILED, "ERROR", Reason.OOM, "OOMKilled", 137)


async def make_failed_job(
    database: Database, make_job: JobFactory, ending: RunResult, **overrides: Any
) -> str:
    job = await make_job(**overrides)
    worker = RunDriver(database)
    await worker.end_run(await worker.start_run(), ending)
    return job_handle(job.id)


async def test_a_retry_is_a_new_job_that_leads_back(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """The old one stays as it was; what was not overridden is as it was."""
    old = await make_failed_job(database, make_job, OOM_RESULT, labels={"team": "nlp"})
    [before] = (await call_for_result(service_url, "job_status", job_ids=old))["jobs"]

    new = await call_for_result(
        service_url, "retry_job", job_id=old, overrides={"flavor": "a10g-large"}
    )

    [after] = (await call_for_result(service_url, "job_status", job_ids=old))["jobs"]
    assert new["job_id"] != old
    assert (new["rerun_of"], new["flavor"], new["state"]) == (old, "a10g-large", "queued")
    assert (new["labels"], new["title"]) == ({"team": "nlp"}, before["title"])
    assert new["digest"] != before["digest"]
    assert {**before, "status_as_of": None} == {**after, "status_as_of": None}


async def test_the_reruns_of_a_job_are_listed(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """From either end of the line the other is one call away."""
    old = await make_failed_job(database, make_job, OOM_RESULT)
    first = await call_for_result(
        service_url, "retry_job", job_id=old, overrides={"flavor": "t4-small"}
    )
    second = await call_for_result(
        service_url, "retry_job", job_id=old, overrides={"flavor": "l4x1"}
    )

    listed = (await call_for_result(service_url, "list_jobs", rerun_of=old))["jobs"]

    assert [job["job_id"] for job in listed] == [second["job_id"], first["job_id"]]
    assert (await call_for_result(service_url, "list_jobs", rerun_of=first["job_id"]))["jobs"] == []


async def test_a_retry_that_could_only_fail_alike_is_refused(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """Nothing is launched, and no key is used up."""
    old = await make_failed_job(database, make_job, OOM_RESULT)

    answer = await call_tool(service_url, "retry_job", job_id=old, idempotency_key="k")

    assert read_refusal(answer)["code"] == "RetryRefused"
    assert 'overrides={"flavor": "a10g-large"}' in answer_text(answer)
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job") == 1
        assert await tx.fetchval("SELECT count(*) FROM idempotency_key") == 0


async def test_what_is_being_stopped_is_run_again_only_once_it_is(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """Two GPUs for one job is what a retry must never buy."""
    old = job_handle((await make_job_with_history(RunDriver(database), make_job, "stopping")).id)
    early = await call_tool(service_url, "retry_job", job_id=old)
    async with database.transaction() as tx:
        run_id = await tx.fetchval("SELECT id FROM remote_run")
    await RunDriver(database).end_run(run_id, RunResult(JobState.CANCELLED, "CANCELED"))

    late = await call_for_result(service_url, "retry_job", job_id=old)

    assert read_refusal(early)["code"] == "RetryRefused"
    assert late["rerun_of"] == old


async def test_a_repeated_retry_says_so(service_url: str, database: Database) -> None:
    """The first is no duplicate of what it repeats; the second is one of the first."""
    launched = await call_for_result(
        service_url, "launch_job", image="python:3.12", command=["true"]
    )
    old = launched["job_id"]
    run_id = await RunDriver(database).start_run()
    await RunDriver(database).end_run(
        run_id, RunResult(JobState.SUCCEEDED, "COMPLETED", exit_code=0)
    )

    first = await call_for_result(service_url, "retry_job", job_id=old)
    second = await call_for_result(service_url, "retry_job", job_id=old)

    assert first["possible_duplicate_of"] is None
    assert second["possible_duplicate_of"] == first["job_id"]


async def test_retries_with_one_key_are_one_job(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """Also at the same moment; and another job's retry is another request."""
    old = job_handle((await make_job_with_history(RunDriver(database), make_job, "succeeded")).id)
    other = job_handle((await make_job_with_history(RunDriver(database), make_job, "cancelled")).id)
    retries = [
        call_for_result(service_url, "retry_job", job_id=old, idempotency_key="k") for _ in range(4)
    ]

    views = await asyncio.gather(*retries)
    conflict = await call_tool(service_url, "retry_job", job_id=other, idempotency_key="k")

    assert len({view["job_id"] for view in views}) == 1
    assert read_refusal(conflict)["code"] == "IdempotencyConflict"
    assert "differs in rerun_of" in answer_text(conflict)


async def test_secrets_are_asked_for_again_and_sealed(service_url: str, database: Database) -> None:
    """What they stood for is in nothing that is answered or kept in the open."""
    launch: dict[str, Any] = {"image": "i", "command": "true", "secrets": {"KEY": "sesame-1"}}
    old = (await call_for_result(service_url, "launch_job", **launch))["job_id"]
    await call_for_result(service_url, "cancel_job", job_id=old)

    without = await call_tool(service_url, "retry_job", job_id=old)
    again = await call_tool(service_url, "retry_job", job_id=old, secrets={"KEY": "sesame-2"})
    misplaced = await call_tool(
        service_url, "retry_job", job_id=old, overrides='{"KEY": "sesame-3"'
    )

    assert "KEY must be given again" in answer_text(without)
    assert not again.is_error
    assert read_refusal(misplaced)["code"] == "Invalid"
    for answer in (without, again, misplaced):
        assert "sesame" not in answer.model_dump_json()
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT count(*) FROM job_secret") == 1


async def test_an_archived_workspace_takes_no_retry(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """A retry is a launch, and goes where the first one went."""
    workspace = (await call_for_result(service_url, "create_workspace", name="w"))["workspace_id"]
    inside = ids.parse_handle(HandleKind.WORKSPACE, workspace)
    old = await make_failed_job(database, make_job, OOM_RESULT, workspace_id=inside)
    await call_for_result(service_url, "archive_workspace", workspace_id=workspace)
    overrides = {"flavor": "l4x1"}

    refused = await call_tool(service_url, "retry_job", job_id=old, overrides=overrides)
    await call_for_result(service_url, "update_workspace", workspace_id=workspace, archived=False)
    new = await call_for_result(service_url, "retry_job", job_id=old, overrides=overrides)

    assert read_refusal(refused)["code"] == "WorkspaceArchived"
    assert new["workspace_id"] == workspace


async def test_a_retry_needs_what_the_launch_needed(
    service_url: str, database: Database, make_job: JobFactory, fake_hub: FakeHub
) -> None:
    """A token that may only call models buys no hardware by a detour."""
    fake_hub.whoami_by_token["hf_models"] = {
        **fake_hub.whoami_by_token["hf_ada"],
        "auth": {
            "type": "access_token",
            "accessToken": {
                "role": "fineGrained",
                "fineGrained": {
                    "global": [],
                    "scoped": [
                        {
                            "entity": {"_id": ADA_ID, "type": "user", "name": "ada"},
                            "permissions": ["inference.serverless.write"],
                        }
                    ],
                },
            },
        },
    }
    old = await make_failed_job(database, make_job, OOM_RESULT)

    answer = await call_tool(service_url, "retry_job", caller_token="hf_models", job_id=old)

    assert read_refusal(answer)["code"] == "InsufficientScope"
    assert (
        read_refusal(await call_tool(service_url, "retry_job", caller_token="hf_bob", job_id=old))[
            "code"
        ]
        == "NotFound"
    )


async def test_a_call_is_run_again_with_another_question(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """By the words launch_inference takes."""
    old = job_handle((await make_job_with_history(RunDriver(database), make_job, "answered")).id)
    async with database.transaction() as tx:
        await tx.execute(
            "UPDATE job_payload SET spec = $1",
            {"model": "m/m", "inputs": [{"role": "user", "content": "Hi"}]},
        )

    new = await call_for_result(
        service_url, "retry_job", job_id=old, overrides={"inputs": "Name a river"}
    )

    assert (new["kind"], new["rerun_of"]) == (JobKind.INFERENCE, old)
    async with database.transaction() as tx:
        spec = await tx.fetchval(
            "SELECT spec FROM job_payload JOIN job ON id = job_id WHERE rerun_of IS NOT NULL"
        )
    assert spec["inputs"] == [{"role": "user", "content": "Name a river"}]
