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
from schema.common.ids import Kind
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.run_end import Ending
from schema.jobs.tables import Job, JobState
from tests.conftest import JobFactory
from tests.service.conftest import Start
from tests.service.listener import TASKS, ask, listening, task
from tests.service.lives import Worker
from tests.service.stand_in import ADA, Whoami, calling, person, post, shown
from tests.stack import eventually

WAITS = f"holdfast:waits:{ADA}"
DONE = Ending(JobState.SUCCEEDED, "COMPLETED")


def handle(job: Job) -> str:
    return ids.write(Kind.JOB, job.id)


def uri(job: Job) -> str:
    return f"job://{handle(job)}"


async def cancel(database: Database, job: Job) -> None:
    async with database.transaction() as tx:
        await lifecycle.cancel(tx, job.id, subject_id=ADA)


@pytest.fixture
async def redis(valkey_url: str) -> AsyncGenerator[Redis]:
    """A look at who listens; nobody, to begin with."""
    async with Redis.from_url(valkey_url) as client:
        await client.delete(WAITS)
        yield client


async def test_a_job_is_told_of_until_nothing_of_it_can_change(
    service: str, make_job: JobFactory, database: Database
) -> None:
    """A client that shows it reads it again each time; then the stream ends by itself."""
    job, other = await make_job(), await make_job()
    async with listening(service, resourceSubscriptions=[uri(job)]) as heard:
        assert await heard.acknowledged() == {"resourceSubscriptions": [uri(job)]}
        assert heard.response.headers["content-type"].startswith("text/event-stream")
        await cancel(database, other)
        run_id = await Worker(database).bind()
        for _ in range(2):  # claimed and bound, unless they were heard of together
            told = await heard.told("resources/updated")
            assert told["uri"] == uri(job)
            read = await ask(service, "resources/read", header=uri(job), uri=uri(job))
            if '"state":"running"' in read.json()["result"]["contents"][0]["text"]:
                break
        await Worker(database).end(run_id, DONE)
        while (message := await heard.next()).get("method") == "notifications/resources/updated":
            assert message["params"]["uri"] == uri(job)
        assert message["result"]["resultType"] == "complete"


async def test_a_task_is_shown_at_once_and_whenever_it_changes(
    service: str, make_job: JobFactory, database: Database
) -> None:
    """As tasks/get shows it, to its end: it may have ended before anybody listened."""
    job = await make_job()
    async with listening(service, taskIds=[handle(job)]) as heard:
        assert await heard.acknowledged() == {"taskIds": [handle(job)]}
        first = await heard.told("tasks")
        assert (first["taskId"], first["status"]) == (handle(job), "working")
        assert first["ttlMs"] is None
        assert "resultType" not in first
        await cancel(database, job)
        last = await heard.told("tasks")
        asked = await task(service, "get", handle(job))
        for name in ("_meta", "resultType"):
            last.pop(name, None)
            asked.pop(name, None)
        assert last == asked
        assert last["status"] == "cancelled"
        await heard.end()

    async with listening(service, taskIds=[handle(job)]) as late:
        await late.acknowledged()
        assert (await late.told("tasks"))["status"] == "cancelled"
        await late.end()


async def test_a_log_is_told_of_when_lines_come_and_when_it_is_complete(
    service: str, make_job: JobFactory, database: Database
) -> None:
    """Lines move nothing, so that they are looked for."""
    job = await make_job()
    worker = Worker(database)
    run_id = await worker.bind()
    logs = f"{uri(job)}/logs"
    async with listening(service, resourceSubscriptions=[logs]) as heard:
        assert await heard.acknowledged() == {"resourceSubscriptions": [logs]}
        await worker.log(run_id, "a line")
        assert (await heard.told("resources/updated"))["uri"] == logs
        await worker.end(run_id, DONE)
        assert (await heard.told("resources/updated"))["uri"] == logs
        await heard.end()


async def test_a_workspace_is_told_of_when_something_happens_in_it(
    service: str, database: Database
) -> None:
    """A new job, and each move of it; what happens elsewhere is not told."""
    made = await shown(service, "create_workspace", name="mine")
    address = f"workspace://{made['workspace_id']}"
    request: dict[str, Any] = {"image": "i", "command": ["c"], "workspace_id": made["workspace_id"]}
    async with listening(service, resourceSubscriptions=[address]) as heard:
        assert await heard.acknowledged() == {"resourceSubscriptions": [address]}
        job = await shown(service, "launch_job", **request)
        assert (await heard.told("resources/updated"))["uri"] == address
        await shown(service, "cancel_job", job_id=job["job_id"])
        assert (await heard.told("resources/updated"))["uri"] == address


async def test_what_is_not_the_callers_is_left_out_of_the_ack(
    service: str, make_job: JobFactory
) -> None:
    """Somebody else's like nobody's; and what is not offered at all."""
    job = await make_job()
    nobodys = ids.new_id()
    for identity in (job.id, nobodys):
        text = ids.write(Kind.JOB, identity)
        wanted: dict[str, Any] = {
            "resourceSubscriptions": [f"job://{text}", f"job://{text}/logs", "x://y"],
            "taskIds": [text, "x"],
            "toolsListChanged": True,
        }
        async with listening(service, by="hf_bob", **wanted) as heard:
            assert await heard.acknowledged() == {}
            await heard.end()


async def test_tasks_are_only_told_of_to_who_knows_them(service: str, make_job: JobFactory) -> None:
    """As their methods are only served to them."""
    async with listening(service, able=False, taskIds=[handle(await make_job())]) as heard:
        error = await heard.refusal()

    assert heard.response.status_code == 400
    assert error["code"] == -32021
    assert error["data"] == {"requiredCapabilities": {"extensions": {TASKS: {}}}}


async def test_a_stream_has_room_for_so_much(service: str, make_job: JobFactory) -> None:
    """More is refused before anything is read."""
    uris = [f"job://{ids.write(Kind.JOB, ids.new_id())}" for _ in range(101)]
    async with listening(service, resourceSubscriptions=uris) as heard:
        assert (await heard.refusal())["code"] == -32602
    wrongs: list[dict[str, Any]] = [{"taskIds": "job_x"}, {"resourceSubscriptions": [1]}]
    for wrong in wrongs:
        async with listening(service, **wrong) as heard:
            assert (await heard.refusal())["code"] == -32602


async def test_streams_are_counted_with_the_waits(
    start: Start, make_job: JobFactory, redis: Redis
) -> None:
    """Over all clients of a subject, and no longer than they last."""
    job = await make_job()
    with start(waits=2) as url:
        async with AsyncExitStack() as streams:
            wanted: dict[str, Any] = {"resourceSubscriptions": [uri(job)]}
            opened = [await streams.enter_async_context(listening(url, **wanted)) for _ in "12"]
            for heard in opened:
                await heard.acknowledged()
            async with listening(url, **wanted) as refused:
                assert (await refused.refusal())["data"] == {
                    "holdfast/error": {"code": "TooManyWaits"}
                }
            async with listening(url, by="hf_bob", resourceSubscriptions=[uri(job)]) as bobs:
                assert await bobs.acknowledged() == {}

        async def listeners() -> int:
            return int(await redis.zcard(WAITS))

        await eventually(listeners, lambda count: count == 0)
        async with listening(url, resourceSubscriptions=[uri(job)]) as again:
            await again.acknowledged()


@pytest.mark.parametrize("becomes", ["revoked", "somebody else's"])
async def test_a_stream_ends_when_its_token_is_not_accepted_any_more(
    service: str, hub: Whoami, make_job: JobFactory, becomes: str
) -> None:
    """Whoever took a token away has taken away what it opened."""
    job = await make_job()
    soon = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    hub.answers["hf_brief"] = person(
        ADA, "ada", type="access_token", accessToken={"role": "write"}, expiresAt=soon
    )
    async with listening(service, by="hf_brief", resourceSubscriptions=[uri(job)]) as heard:
        await heard.acknowledged()
        hub.answers["hf_brief"] = hub.answers["hf_bob"]
        if becomes == "revoked":
            del hub.answers["hf_brief"]
        await heard.end()


async def test_listening_is_offered_to_who_can_and_to_nobody_else(
    service: str, make_job: JobFactory
) -> None:
    """The former revision has no streams, and is not told that it has."""
    able = (await ask(service, "server/discover", header=None)).json()["result"]["capabilities"]
    assert able["resources"]["subscribe"]
    assert not able["resources"]["listChanged"], "nothing that is listed is told of"
    assert not able["tools"]["listChanged"]
    assert able["extensions"] == {TASKS: {}}
    for method in ("subscriptions/listen", "resources/subscribe"):
        params: dict[str, Any] = {"uri": uri(await make_job()), "notifications": {}}
        answer = await post(service, method, params)
        assert answer.json()["error"]["code"] == -32601
    hello = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "tests", "version": "0"},
    }
    former = (await post(service, "initialize", hello)).json()["result"]["capabilities"]
    assert not former["resources"]["subscribe"]
    assert "extensions" not in former


async def test_the_sdks_own_client_listens(
    service: str, make_job: JobFactory, database: Database
) -> None:
    """And sees the graceful end as one."""
    job = await make_job()
    async with (
        calling(service) as client,
        client.listen(resource_subscriptions=[uri(job)]) as subscription,
    ):
        await cancel(database, job)
        heard = [event async for event in subscription]

    assert heard == [ResourceUpdated(uri(job))]


async def test_nobody_who_has_not_signed_in_listens(start: Start) -> None:
    """Not even where they may look around."""
    with start(anonymous="browse") as url:
        answer = await post(url, "subscriptions/listen", {"notifications": {}}, authorization="")

    assert answer.status_code == 401
