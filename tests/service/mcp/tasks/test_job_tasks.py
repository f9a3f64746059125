"""A wait for one job as a task: SEP-2663, on the same rows as everything else."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from schema.accounts import credentials
from schema.common import ids
from schema.db.database import Database
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState
from tests.support.factories import JobFactory
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import JOB_HISTORIES, RunDriver, make_job_with_history
from tests.support.mcp.client import call_for_result
from tests.support.mcp.notification_stream import (
    TASKS_EXTENSION,
    call_task_method,
    send_modern_request,
)
from tests.support.subjects import ADA_ID

MISSING_EXTENSION_ERROR: dict[str, Any] = {
    "code": -32021,
    "message": f"Client did not declare required extension '{TASKS_EXTENSION}'",
    "data": {"requiredCapabilities": {"extensions": {TASKS_EXTENSION: {}}}},
}
STATUS_BY_HISTORY = {
    **dict.fromkeys(("queued", "running"), "working"),
    **dict.fromkeys(("succeeded", "failed", "answered"), "completed"),
    **dict.fromkeys(("cancelled", "stopping"), "cancelled"),
}
RETENTION = timedelta(days=30)


async def call_wait_for_jobs(url: str, job_id: str, **arguments: Any) -> dict[str, Any]:
    """Wait, as a client does that knows tasks."""
    call_arguments = {"job_ids": [job_id], "timeout_seconds": 0.1, **arguments}
    answer = await send_modern_request(
        url, "tools/call", name="wait_for_jobs", arguments=call_arguments
    )
    result: dict[str, Any] = answer.json()["result"]
    return result


async def test_a_wait_for_one_job_is_a_task_that_can_be_asked_about(
    service_url: str, make_job: JobFactory, database: Database
) -> None:
    """From the call to its result, which is what waiting would have answered."""
    job = await make_job()

    made = await call_wait_for_jobs(service_url, job_handle(job), until="terminal")

    assert made["resultType"] == "task"
    assert made.keys() - {"_meta"} == {
        *("resultType", "taskId", "status", "statusMessage"),
        *("createdAt", "lastUpdatedAt", "ttlMs", "pollIntervalMs"),
    }
    assert (made["taskId"], made["status"]) == (job_handle(job), "working")
    assert made["ttlMs"] is None, "it is kept for as long as it takes"
    assert made["pollIntervalMs"] == 2000
    working = await call_task_method(service_url, "get", job_handle(job))
    assert working["resultType"] == "complete"
    assert (working["status"], working["ttlMs"]) == ("working", None)
    assert working["statusMessage"] == made["statusMessage"]
    assert working.keys().isdisjoint({"result", "error", "inputRequests", "requestState"})

    worker = RunDriver(database)
    run_id = await worker.start_run()
    await worker.end_run(run_id, RunResult(JobState.SUCCEEDED, "COMPLETED"))

    over = await call_task_method(service_url, "get", job_handle(job))
    assert over["status"] == "completed"
    assert "pollIntervalMs" not in over
    expires_at = datetime.fromisoformat(over["createdAt"]) + timedelta(milliseconds=over["ttlMs"])
    ended = datetime.fromisoformat(over["lastUpdatedAt"])
    assert abs(expires_at - ended - RETENTION) < timedelta(seconds=1), "as long as the job"
    waited = await call_wait_for_jobs(service_url, job_handle(job), until="terminal")
    assert over["result"]["content"] == waited["content"]
    assert over["result"]["resultType"] == waited["resultType"] == "complete"
    assert not over["result"]["isError"]
    changing = {"changed", "jobs"}
    assert {
        name: value
        for name, value in over["result"]["structuredContent"].items()
        if name not in changing
    } == {
        name: value for name, value in waited["structuredContent"].items() if name not in changing
    }


@pytest.mark.parametrize("life", JOB_HISTORIES)
async def test_a_task_stands_where_its_job_does(
    service_url: str, make_job: JobFactory, database: Database, life: str
) -> None:
    """A job that failed is a call that completed with an error; `failed` is for the protocol's."""
    job = await make_job_with_history(RunDriver(database), make_job, life)

    shown_as = await call_task_method(service_url, "get", job_handle(job))

    assert shown_as["status"] == STATUS_BY_HISTORY[life]
    assert ("result" in shown_as) == (STATUS_BY_HISTORY[life] == "completed")
    if "result" in shown_as:
        assert shown_as["result"]["isError"] == (life == "failed")
    assert (shown_as["ttlMs"] is None) == (STATUS_BY_HISTORY[life] == "working")
    waited = await call_wait_for_jobs(service_url, job_handle(job))
    assert waited["resultType"] == ("task" if STATUS_BY_HISTORY[life] == "working" else "complete")


@pytest.mark.parametrize(
    "arguments",
    [
        {"until": "change"},
        {"since_version": 1},
        {"job_ids": "both"},
        {"timeout_seconds": 0},
        {"job_ids": ["job_not-one"]},
        {"job_ids": [job_handle(ids.new_id())]},
        {"surprise": 1},
    ],
)
async def test_what_is_no_wait_for_the_end_of_one_job_is_no_task(
    service_url: str, make_job: JobFactory, arguments: dict[str, Any]
) -> None:
    """Who waits for a change, or for several, is answered as ever; so is who makes a mistake."""
    one, other = job_handle(await make_job()), job_handle(await make_job())
    if arguments.get("job_ids") == "both":
        arguments = {"job_ids": [one, other]}

    answer = await call_wait_for_jobs(service_url, one, **arguments)

    assert answer["resultType"] == "complete"
    assert "taskId" not in answer


async def test_a_launch_is_never_a_task(service_url: str) -> None:
    """A host that drives tasks by itself would keep its model waiting for hours."""
    arguments = {"image": "python:3.12", "command": ["true"]}

    answer = await send_modern_request(
        service_url, "tools/call", name="launch_job", arguments=arguments
    )

    assert answer.json()["result"]["resultType"] == "complete"
    assert answer.json()["result"]["structuredContent"]["state"] == "queued"


async def test_who_does_not_declare_the_extension_gets_no_task_and_may_not_ask_for_one(
    service_url: str, make_job: JobFactory
) -> None:
    """Each request says for itself what its sender knows."""
    job = job_handle(await make_job())
    arguments = {"job_ids": [job], "until": "terminal", "timeout_seconds": 0.1}

    plain = await send_modern_request(
        service_url, "tools/call", supports_tasks=False, name="wait_for_jobs", arguments=arguments
    )

    assert plain.json()["result"]["resultType"] == "complete"
    assert plain.json()["result"]["structuredContent"]["timed_out"]
    for verb in ("get", "cancel", "update"):
        answer = await send_modern_request(
            service_url, f"tasks/{verb}", supports_tasks=False, taskId=job, inputResponses={}
        )
        assert answer.json()["error"] == MISSING_EXTENSION_ERROR
    assert (await call_for_result(service_url, "job_status", job_ids=job))["jobs"][0][
        "state"
    ] == "queued"


async def test_cancelling_a_task_cancels_the_job(service_url: str, make_job: JobFactory) -> None:
    """The ack says nothing; however often it is asked for, and once it is over as well."""
    job = job_handle(await make_job())

    for _ in range(2):
        ack = await call_task_method(service_url, "cancel", job)
        assert ack.keys() - {"_meta"} == {"resultType"}
        assert ack["resultType"] == "complete"

    assert (await call_task_method(service_url, "get", job))["status"] == "cancelled"
    view = (await call_for_result(service_url, "job_status", job_ids=job))["jobs"][0]
    assert view["state"] == "cancelled"


async def test_answers_to_nothing_that_was_asked_are_passed_over(
    service_url: str, make_job: JobFactory
) -> None:
    """A job asks for nothing on its way."""
    job = job_handle(await make_job())

    ack = await call_task_method(
        service_url, "update", job, inputResponses={"x": {"action": "accept"}}
    )

    assert ack.keys() - {"_meta"} == {"resultType"}
    assert (await call_task_method(service_url, "get", job))["status"] == "working"


async def test_a_header_that_names_another_task_is_refused(
    service_url: str, make_job: JobFactory
) -> None:
    """What is between us and the client may have routed by it; sending none is let pass."""
    job, other = job_handle(await make_job()), job_handle(await make_job())

    for verb in ("get", "cancel", "update"):
        answer = await send_modern_request(
            service_url, f"tasks/{verb}", mcp_name_header=other, taskId=job, inputResponses={}
        )
        assert answer.json()["error"]["code"] == -32020
        assert answer.status_code == 400

    nameless = await send_modern_request(service_url, "tasks/get", mcp_name_header=None, taskId=job)
    assert nameless.json()["result"]["status"] == "working", "and it was not cancelled"


@pytest.mark.parametrize("method", ["tasks/list", "tasks/result"])
async def test_there_are_no_methods_of_the_former_revision(service_url: str, method: str) -> None:
    """The result is in the task, and nobody is shown a list."""
    answer = await send_modern_request(service_url, method, taskId="job_x")

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == -32601


@pytest.mark.parametrize("task_id", ["job_" + 26 * "0", "x", "ws_" + 26 * "0", "", "job_\x00"])
async def test_a_task_of_nobodys_is_invalid(service_url: str, task_id: str) -> None:
    """Whatever is asked of it, and whatever it is called."""
    for verb in ("get", "cancel", "update"):
        answer = await send_modern_request(
            service_url, f"tasks/{verb}", mcp_name_header=None, taskId=task_id, inputResponses={}
        )
        assert answer.json()["error"] == {"code": -32602, "message": f"Unknown task: {task_id}"}


async def test_who_may_only_read_cannot_cancel_a_task(
    service_url: str, make_job: JobFactory
) -> None:
    """The same as by the tool, and with its words."""
    job = job_handle(await make_job())

    answer = await send_modern_request(
        service_url, "tasks/cancel", caller_token="hf_reader", taskId=job
    )

    assert "read-only" in answer.json()["error"]["message"]
    assert answer.json()["error"]["data"] == {"holdfast/error": {"code": "InsufficientScope"}}
    assert (await call_task_method(service_url, "get", job))["status"] == "working"


async def test_a_hold_is_said_in_the_task(
    service_url: str, make_job: JobFactory, database: Database
) -> None:
    """It works, as far as the protocol goes; a person can read why it does not move."""
    job = await make_job()
    async with database.transaction() as tx:
        await credentials.mark_credential_refused(tx, ADA_ID, version=1)

    held = await call_task_method(service_url, "get", job_handle(job), caller_token="hf_reader")

    assert held["status"] == "working"
    assert "Hugging Face" in held["statusMessage"]
    assert held["pollIntervalMs"] == 30_000
