"""Bob asks about Ada's tasks, and listens at her doors: he learns nothing, and changes nothing."""

import base64
import json
from typing import Any

import pytest

from schema.common import ids
from schema.db.database import Database
from tests.support.database.all_rows import read_all_rows
from tests.support.factories import JobFactory
from tests.support.hub.fake_hub import FakeHub, whoami_answer
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import JOB_HISTORIES, RunDriver, make_job_with_history
from tests.support.mcp.client import call_for_result
from tests.support.mcp.notification_stream import open_notification_stream, send_modern_request
from tests.support.mcp.observed_answers import ObservedAnswer
from tests.support.subjects import ADA_ID, ADA_TOKEN, BOB_TOKEN

TASK_METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("tasks/get", {}),
    ("tasks/update", {"inputResponses": {"x": {"action": "accept"}}}),
    ("tasks/cancel", {}),
)


@pytest.mark.parametrize("life", JOB_HISTORIES)
async def test_a_foreign_task_is_not_told_from_none(
    service_url: str, database: Database, make_job: JobFactory, life: str
) -> None:
    """Byte for byte, whatever became of it, and whether or not the asker knows tasks."""
    foreign = job_handle((await make_job_with_history(RunDriver(database), make_job, life)).id)
    nobodys = job_handle(ids.new_id())
    before = await read_all_rows(database)

    for method, more in TASK_METHODS:
        for able in (True, False):
            for header in ("", None):
                theirs, none = [
                    ObservedAnswer.from_response(
                        await send_modern_request(
                            service_url,
                            method,
                            caller_token=BOB_TOKEN,
                            supports_tasks=able,
                            mcp_name_header=header,
                            taskId=each,
                            **more,
                        )
                    )
                    for each in (foreign, nobodys)
                ]
                assert theirs.without_handle(foreign) == none.without_handle(nobodys), (
                    f"{method}, {able}"
                )
                assert b'"error"' in none.body

    assert await read_all_rows(database) == before
    for method, more in TASK_METHODS:
        hers = await send_modern_request(service_url, method, taskId=foreign, **more)
        assert "result" in hers.json(), f"{method}: nothing was attacked"


async def test_a_foreign_wait_does_not_become_a_task(
    service_url: str, make_job: JobFactory
) -> None:
    """Whoever knows tasks is told as much of a foreign job as anybody."""
    foreign = job_handle((await make_job()).id)
    nobodys = job_handle(ids.new_id())

    theirs, none = [
        ObservedAnswer.from_response(
            await send_modern_request(
                service_url,
                "tools/call",
                caller_token=BOB_TOKEN,
                name="wait_for_jobs",
                arguments={"job_ids": [each], "timeout_seconds": 0.1},
            )
        )
        for each in (foreign, nobodys)
    ]

    assert theirs.without_handle(foreign) == none.without_handle(nobodys)
    assert none.error_code == "NotFound"


async def test_who_listens_to_anothers_hears_of_ones_own_alone(
    service_url: str, make_job: JobFactory, database: Database
) -> None:
    """One's own job on the same stream is no ticket; and the ack tells nothing."""
    own = (
        await call_for_result(
            service_url, "launch_job", caller_token=BOB_TOKEN, image="i", command=["c"]
        )
    )["job_id"]
    workspace = (await call_for_result(service_url, "create_workspace", name="hers"))[
        "workspace_id"
    ]
    job = await make_job()
    foreign = job_handle(job.id)
    subscriptions: dict[str, Any] = {
        "resourceSubscriptions": [
            *(f"job://{foreign}", f"job://{foreign}/logs"),
            *(f"workspace://{workspace}", f"job://{own}"),
        ],
        "taskIds": [foreign],
    }
    async with open_notification_stream(
        service_url, caller_token=BOB_TOKEN, **subscriptions
    ) as heard:
        assert await heard.read_acknowledgement() == {"resourceSubscriptions": [f"job://{own}"]}
        await call_for_result(
            service_url, "launch_job", image="i", command=["c"], workspace_id=workspace
        )
        await call_for_result(service_url, "cancel_job", job_id=foreign)
        await call_for_result(service_url, "cancel_job", caller_token=BOB_TOKEN, job_id=own)
        assert (await heard.next_notification("resources/updated"))["uri"] == f"job://{own}"
        await heard.expect_end()

    async with open_notification_stream(service_url, **subscriptions) as hers:
        assert f"job://{foreign}" in (await hers.read_acknowledgement())["resourceSubscriptions"]


async def test_cancelling_a_task_is_challenged_for_a_scope_like_the_tool(
    service_url: str, fake_hub: FakeHub, make_job: JobFactory
) -> None:
    """A client that can sign in for more is sent to where it can, and nothing is stopped."""
    job = job_handle((await make_job()).id)
    claims = base64.urlsafe_b64encode(json.dumps({"scope": "openid"}).encode()).decode()
    token = f"hf_oauth_e30.{claims.rstrip('=')}.c2ln"
    fake_hub.whoami_by_token[token] = whoami_answer(ADA_ID, "ada", type="oauth")

    by_tool = await send_modern_request(
        service_url, "tools/call", caller_token=token, name="cancel_job", arguments={"job_id": job}
    )
    by_task = await send_modern_request(service_url, "tasks/cancel", caller_token=token, taskId=job)

    assert by_task.status_code == 403
    assert 'error="insufficient_scope"' in by_task.headers["www-authenticate"]
    assert ObservedAnswer.from_response(by_task) == ObservedAnswer.from_response(by_tool)
    assert (
        await send_modern_request(service_url, "tasks/get", caller_token=token, taskId=job)
    ).json()["result"]
    view = (await call_for_result(service_url, "job_status", caller_token=ADA_TOKEN, job_ids=job))[
        "jobs"
    ][0]
    assert view["state"] == "queued"
