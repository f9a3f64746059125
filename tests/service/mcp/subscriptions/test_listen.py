"""Who listens hears of every change, of nothing that is another's, and when it is over."""

# redis 5 leaves its keyword arguments untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from mcp.shared.subscriptions import ResourceUpdated
from redis.asyncio import Redis

from schema.common import ids
from schema.common.errors import TooManyWaits
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.run_end import RunResult
from schema.jobs.tables import Job, JobState
from tests.support.factories import JobFactory, StartService
from tests.support.hub.fake_hub import FakeHub, whoami_answer
from tests.support.jobs.handles import job_handle, job_uri
from tests.support.jobs.job_states import RunDriver
from tests.support.mcp.client import call_for_result, open_mcp_client, post_message
from tests.support.mcp.notification_stream import (
    TASKS_EXTENSION,
    call_task_method,
    open_notification_stream,
    send_modern_request,
)
from tests.support.polling import eventually
from tests.support.subjects import ADA_ID

WAITS_KEY = f"holdfast:waits:{ADA_ID}"
SUCCEEDED_RESULT = RunResult(JobState.SUCCEEDED, "COMPLETED")


async def cancel_job(database: Database, job: Job) -> None:
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, job.id, subject_id=ADA_ID)


@pytest.fixture
async def redis(valkey_url: str) -> AsyncGenerator[Redis]:
    """A look at who listens; nobody, to begin with."""
    async with Redis.from_url(valkey_url) as client:
        await client.delete(WAITS_KEY)
        yield client


async def test_a_job_is_told_of_until_nothing_of_it_can_change(
    service_url: str, make_job: JobFactory, database: Database
) -> None:
    """A client that shows it reads it again each time; then the stream ends by itself."""
    job, other = await make_job(), await make_job()
    async with open_notification_stream(service_url, resourceSubscriptions=[job_uri(job)]) as heard:
        assert await heard.read_acknowledgement() == {"resourceSubscriptions": [job_uri(job)]}
        assert heard.response.headers["content-type"].startswith("text/event-stream")
        await cancel_job(database, other)
        run_id = await RunDriver(database).start_run()
        for _ in range(2):  # claimed and bound, unless they were heard of together
            notification = await heard.next_notification("resources/updated")
            assert notification["uri"] == job_uri(job)
            read = await send_modern_request(
                service_url, "resources/read", mcp_name_header=job_uri(job), uri=job_uri(job)
            )
            if '"state":"running"' in read.json()["result"]["contents"][0]["text"]:
                break
        await RunDriver(database).end_run(run_id, SUCCEEDED_RESULT)
        while (message := await heard.next_message()).get(
            "method"
        ) == "notifications/resources/updated":
            assert message["params"]["uri"] == job_uri(job)
        assert message["result"]["resultType"] == "complete"


async def test_a_task_is_shown_at_once_and_whenever_it_changes(
    service_url: str, make_job: JobFactory, database: Database
) -> None:
    """As tasks/get shows it, to its end: it may have ended before anybody listened."""
    job = await make_job()
    async with open_notification_stream(service_url, taskIds=[job_handle(job)]) as heard:
        assert await heard.read_acknowledgement() == {"taskIds": [job_handle(job)]}
        first = await heard.next_notification("tasks")
        assert (first["taskId"], first["status"]) == (job_handle(job), "working")
        assert first["ttlMs"] is None
        assert "resultType" not in first
        await cancel_job(database, job)
        last = await heard.next_notification("tasks")
        task = await call_task_method(service_url, "get", job_handle(job))
        for name in ("_meta", "resultType"):
            last.pop(name, None)
            task.pop(name, None)
        assert last == task
        assert last["status"] == "cancelled"
        await heard.expect_end()

    async with open_notification_stream(service_url, taskIds=[job_handle(job)]) as late:
        await late.read_acknowledgement()
        assert (await late.next_notification("tasks"))["status"] == "cancelled"
        await late.expect_end()


async def test_a_log_is_told_of_when_lines_come_and_when_it_is_complete(
    service_url: str, make_job: JobFactory, database: Database
) -> None:
    """Lines move nothing, so that they are looked for."""
    job = await make_job()
    worker = RunDriver(database)
    run_id = await worker.start_run()
    logs = f"{job_uri(job)}/logs"
    async with open_notification_stream(service_url, resourceSubscriptions=[logs]) as heard:
        assert await heard.read_acknowledgement() == {"resourceSubscriptions": [logs]}
        await worker.append_log(run_id, "a line")
        assert (await heard.next_notification("resources/updated"))["uri"] == logs
        await worker.end_run(run_id, SUCCEEDED_RESULT)
        assert (await heard.next_notification("resources/updated"))["uri"] == logs
        await heard.expect_end()


async def test_a_workspace_is_told_of_when_something_happens_in_it(
    service_url: str, database: Database
) -> None:
    """A new job, and each move of it; what happens elsewhere is not told."""
    made = await call_for_result(service_url, "create_workspace", name="mine")
    address = f"workspace://{made['workspace_id']}"
    request: dict[str, Any] = {"image": "i", "command": ["c"], "workspace_id": made["workspace_id"]}
    async with open_notification_stream(service_url, resourceSubscriptions=[address]) as heard:
        assert await heard.read_acknowledgement() == {"resourceSubscriptions": [address]}
        job = await call_for_result(service_url, "launch_job", **request)
        assert (await heard.next_notification("resources/updated"))["uri"] == address
        await call_for_result(service_url, "cancel_job", job_id=job["job_id"])
        assert (await heard.next_notification("resources/updated"))["uri"] == address


async def test_what_is_not_the_callers_is_left_out_of_the_ack(
    service_url: str, make_job: JobFactory
) -> None:
    """Somebody else's like nobody's; and what is not offered at all."""
    job = await make_job()
    nobodys = ids.new_id()
    for identity in (job.id, nobodys):
        text = job_handle(identity)
        subscriptions: dict[str, Any] = {
            "resourceSubscriptions": [f"job://{text}", f"job://{text}/logs", "x://y"],
            "taskIds": [text, "x"],
            "toolsListChanged": True,
        }
        async with open_notification_stream(
            service_url, caller_token="hf_bob", **subscriptions
        ) as heard:
            assert await heard.read_acknowledgement() == {}
            await heard.expect_end()


async def test_tasks_are_only_told_of_to_who_knows_them(
    service_url: str, make_job: JobFactory
) -> None:
    """As their methods are only served to them."""
    async with open_notification_stream(
        service_url, supports_tasks=False, taskIds=[job_handle(await make_job())]
    ) as heard:
        error = await heard.read_error()

    assert heard.response.status_code == 400
    assert error["code"] == -32021
    assert error["data"] == {"requiredCapabilities": {"extensions": {TASKS_EXTENSION: {}}}}


async def test_a_stream_has_room_for_so_much(service_url: str, make_job: JobFactory) -> None:
    """More is refused before anything is read."""
    uris = [job_uri(ids.new_id()) for _ in range(101)]
    async with open_notification_stream(service_url, resourceSubscriptions=uris) as heard:
        assert (await heard.read_error())["code"] == -32602
    wrongs: list[dict[str, Any]] = [{"taskIds": "job_x"}, {"resourceSubscriptions": [1]}]
    for wrong in wrongs:
        async with open_notification_stream(service_url, **wrong) as heard:
            assert (await heard.read_error())["code"] == -32602


async def test_streams_are_counted_with_the_waits(
    start_service: StartService, make_job: JobFactory, redis: Redis
) -> None:
    """Over all clients of a subject, and no longer than they last."""
    job = await make_job()
    with start_service(waits=2) as url:
        async with AsyncExitStack() as streams:
            subscriptions: dict[str, Any] = {"resourceSubscriptions": [job_uri(job)]}
            opened = [
                await streams.enter_async_context(open_notification_stream(url, **subscriptions))
                for _ in "12"
            ]
            for heard in opened:
                await heard.read_acknowledgement()
            async with open_notification_stream(url, **subscriptions) as refused:
                assert (await refused.read_error())["data"] == {
                    "holdfast/error": TooManyWaits(2).to_dict()
                }
            async with open_notification_stream(
                url, caller_token="hf_bob", resourceSubscriptions=[job_uri(job)]
            ) as bobs:
                assert await bobs.read_acknowledgement() == {}

        async def listeners() -> int:
            return int(await redis.zcard(WAITS_KEY))

        await eventually(listeners, lambda count: count == 0)
        async with open_notification_stream(url, resourceSubscriptions=[job_uri(job)]) as again:
            await again.read_acknowledgement()


@pytest.mark.parametrize("becomes", ["revoked", "somebody else's"])
async def test_a_stream_ends_when_its_token_is_not_accepted_any_more(
    service_url: str, fake_hub: FakeHub, make_job: JobFactory, becomes: str
) -> None:
    """Whoever took a token away has taken away what it opened."""
    job = await make_job()
    soon = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    fake_hub.whoami_by_token["hf_brief"] = whoami_answer(
        ADA_ID, "ada", type="access_token", accessToken={"role": "write"}, expiresAt=soon
    )
    async with open_notification_stream(
        service_url, caller_token="hf_brief", resourceSubscriptions=[job_uri(job)]
    ) as heard:
        await heard.read_acknowledgement()
        fake_hub.whoami_by_token["hf_brief"] = fake_hub.whoami_by_token["hf_bob"]
        if becomes == "revoked":
            del fake_hub.whoami_by_token["hf_brief"]
        await heard.expect_end()


async def test_listening_is_offered_to_who_can_and_to_nobody_else(
    service_url: str, make_job: JobFactory
) -> None:
    """The former revision has no streams, and is not told that it has."""
    able = (await send_modern_request(service_url, "server/discover", mcp_name_header=None)).json()[
        "result"
    ]["capabilities"]
    assert able["resources"]["subscribe"]
    assert not able["resources"]["listChanged"], "nothing that is listed is told of"
    assert not able["tools"]["listChanged"]
    assert able["extensions"] == {TASKS_EXTENSION: {}}
    for method in ("subscriptions/listen", "resources/subscribe"):
        params: dict[str, Any] = {"uri": job_uri(await make_job()), "notifications": {}}
        answer = await post_message(service_url, method, params)
        assert answer.json()["error"]["code"] == -32601
    hello = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "tests", "version": "0"},
    }
    former = (await post_message(service_url, "initialize", hello)).json()["result"]["capabilities"]
    assert not former["resources"]["subscribe"]
    assert "extensions" not in former


async def test_the_sdks_own_client_listens(
    service_url: str, make_job: JobFactory, database: Database
) -> None:
    """And sees the graceful end as one."""
    job = await make_job()
    async with (
        open_mcp_client(service_url) as client,
        client.listen(resource_subscriptions=[job_uri(job)]) as subscription,
    ):
        await cancel_job(database, job)
        heard = [event async for event in subscription]

    assert heard == [ResourceUpdated(job_uri(job))]


async def test_nobody_who_has_not_signed_in_listens(service_url: str) -> None:
    """They may look around, and no more."""
    answer = await post_message(
        service_url, "subscriptions/listen", {"notifications": {}}, authorization=""
    )

    assert answer.status_code == 401
