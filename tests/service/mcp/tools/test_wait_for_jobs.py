"""Waiting for jobs, as clients do it: by the tool, over HTTP.

Whoever says which version they saw misses nothing, so that no test here has to hit a moment.
"""

# redis 5 leaves its keyword arguments untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import anyio
import pytest
from redis.asyncio import Redis

from schema.accounts import credentials
from schema.common import ids
from schema.db.database import Database
from schema.jobs import lifecycle, run_end, run_launch
from schema.jobs.run_end import RunResult
from schema.jobs.tables import Job, JobKind, JobState
from tests.support.factories import JobFactory, StartService
from tests.support.hub.fake_hub import FakeHub
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import RunDriver
from tests.support.mcp.client import (
    answer_text,
    call_for_result,
    call_tool,
    open_mcp_client,
    read_refusal,
)
from tests.support.polling import eventually
from tests.support.subjects import ADA_ID

WAITS_KEY = f"holdfast:waits:{ADA_ID}"


async def cancel_job(database: Database, job: Job) -> None:
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, job.id, subject_id=ADA_ID)


async def record_stage(database: Database, run_id: UUID, stage: str) -> None:
    async with database.transaction() as tx:
        await run_end.record_stage(tx, run_id, stage=stage, started_at=None, worker="w")


@pytest.fixture
async def redis(valkey_url: str) -> AsyncGenerator[Redis]:
    """A look at who waits; nobody, to begin with."""
    async with Redis.from_url(valkey_url) as client:
        await client.delete(WAITS_KEY)
        yield client


@asynccontextmanager
async def run_during_wait(
    redis: Redis, url: str, answers: list[dict[str, Any]], **arguments: Any
) -> AsyncGenerator[None]:
    """Do something while a call waits; its answer is appended."""

    async def wait() -> None:
        answers.append(await call_for_result(url, "wait_for_jobs", timeout_seconds=40, **arguments))

    async def waits() -> int:
        return int(await redis.zcard(WAITS_KEY))

    with anyio.fail_after(25):
        async with anyio.create_task_group() as calls:
            before = await waits()
            calls.start_soon(wait)
            await eventually(waits, lambda count: count > before)
            yield


async def test_a_wait_answers_when_the_job_changes(
    service_url: str, redis: Redis, database: Database, make_job: JobFactory
) -> None:
    """And it says what to do next, without a second call."""
    job = await make_job()
    answers: list[dict[str, Any]] = []
    async with run_during_wait(
        redis, service_url, answers, job_ids=job_handle(job), since_version=1
    ):
        await cancel_job(database, job)

    [view] = answers
    assert (view["changed"], view["done"], view["timed_out"]) == ([job_handle(job)], True, False)
    assert view["jobs"][0]["state"] == "cancelled"
    assert view["next_step"] == "Nothing is left to do."


async def test_without_a_valkey_a_wait_is_answered_all_the_same(
    start_service: StartService, database: Database, make_job: JobFactory
) -> None:
    """Redis may burn; it costs the wait one look."""
    job = await make_job()
    with start_service(HOLDFAST_REDIS_URL="redis://127.0.0.1:1/0") as url:
        async with anyio.create_task_group() as calls:

            async def wait() -> None:
                view = await call_for_result(
                    url,
                    "wait_for_jobs",
                    job_ids=job_handle(job),
                    since_version=1,
                    timeout_seconds=40,
                )
                assert view["changed"] == [job_handle(job)]

            with anyio.fail_after(20):
                calls.start_soon(wait)
                await cancel_job(database, job)


async def test_what_holds_already_is_answered_at_once(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """Whoever saw version 1 has missed a change, and whoever waits for the end of it has it."""
    job = await make_job()
    await cancel_job(database, job)
    with anyio.fail_after(10):
        cases: list[dict[str, Any]] = [
            {"since_version": 1},
            {"until": "terminal"},
            {"since_version": 2},
            {},
        ]
        for arguments in cases:
            view = await call_for_result(
                service_url,
                "wait_for_jobs",
                job_ids=job_handle(job),
                timeout_seconds=45,
                **arguments,
            )
            assert (view["done"], view["timed_out"]) == (True, False), arguments
            assert view["changed"] == (
                [job_handle(job)] if arguments.get("since_version") == 1 else []
            )


async def test_a_wait_in_vain_names_the_call_that_goes_on_with_it(
    service_url: str, make_job: JobFactory, database: Database
) -> None:
    """Word for word, with the version up to which nothing was missed."""
    job = await make_job()

    view = await call_for_result(
        service_url, "wait_for_jobs", job_ids=job_handle(job), timeout_seconds=0.1
    )

    assert (view["timed_out"], view["done"], view["changed"]) == (True, False, [])
    assert view["next_step"] == (
        f'Call wait_for_jobs(job_ids="{job_handle(job)}", until="change", since_version=1) to '
        "wait on."
    )


async def test_bookkeeping_wakes_nobody(
    service_url: str, redis: Redis, database: Database, make_job: JobFactory
) -> None:
    """That a launch is in doubt is ours to settle; what comes of it is the person's to know."""
    job = await make_job()
    run_id = await _claim_run(database)
    answers: list[dict[str, Any]] = []
    async with run_during_wait(
        redis, service_url, answers, job_ids=job_handle(job), since_version=2
    ):
        async with database.transaction() as tx:
            await run_launch.mark_unconfirmed(tx, run_id, cause="?", worker="w")
        view = await call_for_result(
            service_url,
            "wait_for_jobs",
            job_ids=job_handle(job),
            since_version=2,
            timeout_seconds=1.5,
        )
        assert (view["timed_out"], view["jobs"][0]["version"]) == (True, 3)
        assert answers == []
        await cancel_job(database, job)

    assert answers[0]["changed"] == [job_handle(job)]


async def test_stopping_is_waited_for_until_it_is_seen_to_be_over(
    service_url: str, redis: Redis, database: Database, make_job: JobFactory
) -> None:
    """A cancelled job whose run may still cost money has not come to its end."""
    job = await make_job()
    worker = RunDriver(database)
    run_id = await worker.start_run()
    await cancel_job(database, job)
    answers: list[dict[str, Any]] = []
    async with run_during_wait(
        redis, service_url, answers, job_ids=job_handle(job), until="terminal"
    ):
        assert answers == []
        await worker.end_run(run_id, RunResult(JobState.CANCELLED, "CANCELED"))

    assert (answers[0]["done"], answers[0]["jobs"][0]["upstream"]) == (True, "stopped")


async def test_any_answers_with_the_first_and_all_with_the_last(
    service_url: str, redis: Redis, database: Database, make_job: JobFactory
) -> None:
    """And the next call leaves out what will not change any more."""
    first, last = await make_job(), await make_job()
    both: dict[str, Any] = {
        "job_ids": [job_handle(first), job_handle(last)],
        "until": "terminal",
    }
    everything: list[dict[str, Any]] = []
    async with run_during_wait(redis, service_url, everything, **both, mode="all"):
        anything: list[dict[str, Any]] = []
        async with run_during_wait(redis, service_url, anything, **both, mode="any"):
            await cancel_job(database, first)
        assert everything == []
        [view] = anything
        assert (view["done"], view["timed_out"]) == (False, False)
        assert f'wait_for_jobs(job_ids="{job_handle(last)}", until="terminal"' in view["next_step"]
        await cancel_job(database, last)

    assert everything[0]["done"]


async def test_a_finished_job_among_many_does_not_end_every_wait_for_a_change(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """A client that waits in a loop would spin for as long as the others run."""
    finished, running = await make_job(), await make_job()
    await cancel_job(database, finished)
    seen = {job_handle(finished): 2, job_handle(running): 1}

    view = await call_for_result(
        service_url, "wait_for_jobs", job_ids=list(seen), since_version=seen, timeout_seconds=0.2
    )

    assert (view["timed_out"], view["changed"]) == (True, [])


async def test_of_several_the_next_call_says_what_was_seen_of_each(
    service_url: str, make_job: JobFactory
) -> None:
    """And it can be made as it is written."""
    jobs = [job_handle(await make_job()) for _ in range(2)]

    view = await call_for_result(
        service_url, "wait_for_jobs", job_ids=jobs, mode="all", timeout_seconds=0.1
    )

    assert view["next_step"] == (
        f'Call wait_for_jobs(job_ids=["{jobs[0]}", "{jobs[1]}"], mode="all", until="change", '
        f'since_version={{"{jobs[0]}": 1, "{jobs[1]}": 1}}) to wait on.'
    )
    again = await call_for_result(
        service_url,
        "wait_for_jobs",
        job_ids=jobs,
        mode="all",
        since_version={jobs[0]: 1, jobs[1]: 1},
        timeout_seconds=0.1,
    )
    assert again["timed_out"]


async def test_a_hold_is_a_change(
    service_url: str, redis: Redis, database: Database, make_job: JobFactory
) -> None:
    """Only the person can put it right, so they should not hear of it after the wait."""
    job = await make_job()
    answers: list[dict[str, Any]] = []
    async with run_during_wait(redis, service_url, answers, job_ids=job_handle(job)):
        await anyio.sleep(0.5)  # it has to have looked once: a hold that is there is no change
        async with database.transaction() as tx:
            await credentials.mark_credential_refused(
                tx, ADA_ID, version=await _read_version(database)
            )

    assert (answers[0]["changed"], answers[0]["jobs"][0]["hold"]) == (
        [job_handle(job)],
        "credentials",
    )


async def test_a_job_that_appears_while_it_is_waited_for_is_waited_for(
    service_url: str, redis: Redis, database: Database, make_job: JobFactory
) -> None:
    """Its launch is committed between two reads, of which only the second one sees it."""
    first = await make_job()
    await call_for_result(service_url, "whoami")  # later calls need not lock Ada
    answers: list[dict[str, Any]] = []
    async with AsyncExitStack() as submission:
        tx = await submission.enter_async_context(database.transaction())
        second = await lifecycle.submit_job(
            tx,
            subject_id=ADA_ID,
            kind=JobKind.HUB_JOB,
            namespace="ada",
            title="true",
            spec={"image": "python:3.12", "command": ["true"]},
            labels={},
            max_open_jobs=1000,
        )
        handles = [job_handle(first), job_handle(second)]
        async with run_during_wait(
            redis, service_url, answers, job_ids=handles, mode="all", until="terminal"
        ):
            await submission.aclose()
            await cancel_job(database, first)
            await cancel_job(database, second)

    assert [job["state"] for job in answers[0]["jobs"]] == ["cancelled", "cancelled"]
    assert answers[0]["errors"] == []


async def test_a_wrong_handle_spoils_only_itself(
    service_url: str, make_job: JobFactory, database: Database
) -> None:
    """Alone it is an error at once; among others it comes back with them."""
    job = await make_job()
    await cancel_job(database, job)
    nobodys = job_handle(ids.new_id())

    alone = await call_tool(service_url, "wait_for_jobs", job_ids=nobodys)
    view = await call_for_result(
        service_url, "wait_for_jobs", job_ids=[nobodys, job_handle(job), "job_no"]
    )

    assert read_refusal(alone)["code"] == "NotFound"
    assert [error["code"] for error in view["errors"]] == ["NotFound", "Invalid"]
    assert [each["job_id"] for each in view["jobs"]] == [job_handle(job)]


@pytest.mark.parametrize("timeout_seconds", [46, 60, 3600])
async def test_a_wait_that_may_not_be_so_long_is_as_long_as_it_may_be_and_says_so(
    service_url: str, database: Database, make_job: JobFactory, timeout_seconds: int
) -> None:
    """A refusal would only cost a round trip: the jobs go on either way."""
    job = await make_job()
    await cancel_job(database, job)

    answer = await call_tool(
        service_url,
        "wait_for_jobs",
        job_ids=job_handle(job),
        until="terminal",
        timeout_seconds=timeout_seconds,
    )

    assert not answer.is_error, answer_text(answer)
    assert answer.structured_content is not None
    [note] = answer.structured_content["notes"]
    assert "timeout_seconds was taken as 45" in note
    assert note in answer_text(answer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"timeout_seconds": 0}, "greater than 0"),
        ({"mode": "some"}, "none of any, all"),
        ({"until": "done"}, "none of change, terminal"),
        ({"job_ids": ["job_a", "job_b"], "since_version": 3}, "count the changes of one job"),
        ({"since_version": {"job_other": 3}}, "job_other, which is not one of job_ids"),
    ],
)
async def test_what_makes_no_sense_is_refused_with_what_would(
    service_url: str, arguments: dict[str, Any], message: str
) -> None:
    """A wait that did something else than was meant would look like a job that hangs."""
    answer = await call_tool(service_url, "wait_for_jobs", **{"job_ids": "job_a", **arguments})

    assert read_refusal(answer)["code"] == "Invalid"
    assert message in answer_text(answer)


async def test_who_asks_for_progress_hears_of_every_change_while_they_wait(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """A person who watches wants to see it move before it is over."""
    job = await make_job()
    heard: list[tuple[float, str]] = []
    worker, runs = RunDriver(database), list[UUID]()

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        assert total == 30
        heard.append((progress, message or ""))
        if len(heard) == 1:
            runs.append(await worker.start_run())
        elif len(heard) == 2:
            await record_stage(database, runs[0], "SCHEDULING")
        else:
            await worker.end_run(runs[0], RunResult(JobState.SUCCEEDED, "COMPLETED"))

    with anyio.fail_after(25):
        async with open_mcp_client(service_url) as client:
            answer = await client.call_tool(
                "wait_for_jobs",
                {"job_ids": job_handle(job), "until": "terminal"},
                progress_callback=hear,
            )

    assert answer.structured_content is not None
    assert answer.structured_content["done"]
    assert [sentence[:7] for _, sentence in heard] == ["Queued;", "Running", "Created"]
    assert all(sentence.endswith("s so far.") for _, sentence in heard)
    assert [progress for progress, _ in heard] == sorted(progress for progress, _ in heard)


async def test_a_client_that_disconnects_frees_its_wait(
    service_url: str, redis: Redis, make_job: JobFactory
) -> None:
    """Or clients that come and go would use up what their person may wait for."""
    job = await make_job()

    async def hear(progress: float, total: float | None, message: str | None) -> None: ...

    async with anyio.create_task_group() as calls:

        async def wait() -> None:
            async with open_mcp_client(service_url) as client:
                await client.call_tool(
                    "wait_for_jobs",
                    {"job_ids": job_handle(job), "timeout_seconds": 45},
                    progress_callback=hear,
                )

        calls.start_soon(wait)
        await eventually(lambda: _count_waits(redis), lambda count: count == 1)
        calls.cancel_scope.cancel()

    await eventually(lambda: _count_waits(redis), lambda count: count == 0)


async def test_a_subject_has_so_many_waits_and_then_is_told_what_else_to_do(
    start_service: StartService, redis: Redis, database: Database, make_job: JobFactory
) -> None:
    """Over all replicas: the second is on another port."""
    job = await make_job()
    answers: list[dict[str, Any]] = []
    with start_service(waits=1) as one, start_service(waits=1) as other:
        async with run_during_wait(redis, one, answers, job_ids=job_handle(job), since_version=1):
            refused = await call_tool(other, "wait_for_jobs", job_ids=job_handle(job))
            await cancel_job(database, job)

    assert read_refusal(refused)["code"] == "TooManyWaits"
    assert "call job_status" in answer_text(refused)


async def test_nobody_upstream_hears_of_who_waits(
    service_url: str, fake_hub: FakeHub, make_job: JobFactory
) -> None:
    """The Hub is asked who calls, once for a while, and never how a job is (I9)."""
    job = await make_job()
    await call_for_result(service_url, "job_status", job_ids=job_handle(job))
    before = len(fake_hub.whoami_tokens)

    async with anyio.create_task_group() as calls:

        async def wait() -> None:
            await call_for_result(
                service_url, "wait_for_jobs", job_ids=job_handle(job), timeout_seconds=1.2
            )

        for _ in range(10):
            calls.start_soon(wait)

    assert len(fake_hub.whoami_tokens) == before


async def _count_waits(redis: Redis) -> int:
    return int(await redis.zcard(WAITS_KEY))


async def _claim_run(database: Database) -> UUID:
    minute = timedelta(minutes=1)
    async with database.transaction() as tx:
        [claim] = await run_launch.claim(
            tx, JobKind.HUB_JOB, limit=1, worker="w", lease=minute, settle_window=minute
        )
    return claim.run_id


async def _read_version(database: Database) -> int:
    async with database.transaction() as tx:
        version: int = await tx.fetchval("SELECT version FROM credential")
    return version
