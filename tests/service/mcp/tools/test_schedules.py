"""Schedules as a client sees them, from the first dry run to what is left when one is gone."""

import re
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import anyio
import pytest

from schema.accounts.row_security import DatabaseRole
from schema.accounts.vault import Vault
from schema.common import ids
from schema.common.ids import HandleKind
from schema.db.database import Database
from schema.settings import Settings
from tests.support.hub.fake_hub import FakeHub
from tests.support.jobs.schedule_states import set_due
from tests.support.mcp.client import answer_text, call_for_result, call_tool, read_refusal
from tests.support.subjects import ADA_TOKEN
from workers.context import Worker
from workers.hub.client import open_hub_jobs_client as hub_of
from workers.loops.fire_schedules import fire_due_schedules

JOB_ARGUMENTS: Final[dict[str, Any]] = {
    "image": "python:3.12",
    "command": ["true"],
    "timeout": "10m",
}
CALL_ARGUMENTS: Final[dict[str, Any]] = {"model": "m/m", "inputs": "Hi"}
DAILY_SCHEDULE: Final[dict[str, Any]] = {"cron": "@daily", "job": JOB_ARGUMENTS}


@pytest.fixture
async def worker(
    database_url: str, vault: Vault, make_settings: Callable[..., Settings], fake_hub: FakeHub
) -> AsyncGenerator[Worker]:
    """A worker without loops."""
    async with (
        hub_of(fake_hub.url, fake_hub.url) as gateway,
        Database(database_url, application_name="w", role=DatabaseRole.WORKER) as database,
    ):
        yield Worker(
            name="w",
            settings=make_settings(lease="1s", post_timeout="100ms", settle="100ms"),
            database=database,
            vault=vault,
            hub=gateway,
            executors={},
        )


async def make_due(
    database: Database, schedule_id: str, overdue_by: timedelta = timedelta(0)
) -> None:
    await set_due(database, ids.parse_handle(HandleKind.SCHEDULE, schedule_id), overdue_by)


async def read_schedule(service: str, schedule_id: str) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = (
        await call_for_result(service, "list_jobs", schedule_id=schedule_id)
    )["jobs"]
    return answer


async def keep_firing(worker: Worker) -> None:
    while True:
        await fire_due_schedules(worker)
        await anyio.sleep(0.05)  # as the sweep does; it is cancelled when the calls are answered


async def count_rows(database: Database) -> int:
    async with database.transaction() as tx:
        made: int = await tx.fetchval("SELECT count(*) FROM schedule")
    return made


async def test_a_dry_run_shows_the_next_times_and_makes_nothing(
    service_url: str, database: Database
) -> None:
    """Whoever misreads cron finds out before anything fires."""
    answer = await call_tool(
        service_url,
        "create_schedule",
        cron="0 9 * * 1-5",
        timezone="europe/paris",
        job=JOB_ARGUMENTS,
        dry_run=True,
    )

    view = answer.structured_content
    assert view is not None
    times = [datetime.fromisoformat(each) for each in view["next_runs"]]
    assert len(set(times)) == 5
    assert {(moment.hour, moment.minute) for moment in times} == {(9, 0)}
    assert {moment.utcoffset() for moment in times} <= {timedelta(hours=1), timedelta(hours=2)}
    assert all(moment.weekday() < 5 for moment in times)
    assert view["next_runs"][0] in answer_text(answer)
    assert view["ceiling_usd"] > 0
    assert await count_rows(database) == 0


async def test_what_a_schedule_launched_is_found_by_it_also_when_it_is_gone(
    service_url: str, database: Database, worker: Worker
) -> None:
    """Each is an ordinary job, with a handle of its own, that outlives its schedule."""
    made = await call_for_result(service_url, "create_schedule", **DAILY_SCHEDULE, name="nightly")
    other = await call_for_result(service_url, "create_schedule", **DAILY_SCHEDULE)
    schedule_id = made["schedule_id"]
    assert made["next_run_at"].endswith("T00:00:00Z")
    assert await read_schedule(service_url, schedule_id) == []
    await make_due(database, schedule_id)

    await fire_due_schedules(worker)

    [job] = await read_schedule(service_url, schedule_id)
    assert await read_schedule(service_url, other["schedule_id"]) == []
    [whole] = (await call_for_result(service_url, "job_status", job_ids=job["job_id"]))["jobs"]
    assert (whole["schedule_id"], whole["timeout"]) == (schedule_id, "10m")
    page = await call_for_result(
        service_url, "list_schedules", limit=1, cursor=other["schedule_id"]
    )
    [seen] = page["schedules"]
    assert (seen["name"], page["next_cursor"]) == ("nightly", None)
    assert seen["last"]["became"] == "launched"
    assert job["job_id"] in seen["summary"]

    await call_for_result(service_url, "delete_schedule", schedule_id=schedule_id)

    assert [each["job_id"] for each in await read_schedule(service_url, schedule_id)] == [
        job["job_id"]
    ]
    gone = await call_tool(service_url, "delete_schedule", schedule_id=schedule_id)
    assert read_refusal(gone)["code"] == "NotFound"


async def test_a_pause_ends_without_a_burst(
    service_url: str, database: Database, worker: Worker
) -> None:
    """Whoever pauses for a week wants none of that week's jobs."""
    made = await call_for_result(
        service_url, "create_schedule", cron="*/5 * * * *", job=JOB_ARGUMENTS
    )
    schedule_id = made["schedule_id"]
    await make_due(database, schedule_id, timedelta(days=7))
    paused = await call_for_result(
        service_url, "update_schedule", schedule_id=schedule_id, paused=True
    )
    assert (paused["paused"], paused["next_run_at"], paused["next_runs"]) == (True, None, [])
    while await fire_due_schedules(worker):
        pass

    again = await call_for_result(
        service_url, "update_schedule", schedule_id=schedule_id, paused=False
    )
    while await fire_due_schedules(worker):
        pass

    assert datetime.fromisoformat(again["next_run_at"]) > datetime.now(UTC) - timedelta(minutes=1)
    assert again["firings"] == []
    assert await read_schedule(service_url, schedule_id) == []


async def test_a_firing_that_is_asked_for_is_answered_with_its_job(
    service_url: str, worker: Worker
) -> None:
    """A model that has to look for the job of its own call may take another for it."""
    made = await call_for_result(service_url, "create_schedule", **DAILY_SCHEDULE)
    schedule_id = made["schedule_id"]

    arguments: dict[str, Any] = {"schedule_id": schedule_id, "run_now": True}
    answers: list[dict[str, Any]] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_firing, worker)
        answers.append(await call_for_result(service_url, "update_schedule", **arguments))
        answers.append(await call_for_result(service_url, "update_schedule", **arguments))
        tasks.cancel_scope.cancel()

    first, second = answers
    [job] = await read_schedule(service_url, schedule_id)
    assert first["last"]["job_id"] == job["job_id"]
    assert first["next_run_at"] == made["next_run_at"]
    assert (second["last"]["became"], second["last"]["job_id"]) == ("skipped", job["job_id"])


async def test_a_firing_nobody_is_there_for_is_said_to_be_outstanding(service_url: str) -> None:
    """It is kept, and made as soon as a worker is back."""
    made = await call_for_result(service_url, "create_schedule", **DAILY_SCHEDULE)

    view = await call_for_result(
        service_url, "update_schedule", schedule_id=made["schedule_id"], run_now=True
    )

    assert view["last"] is None
    assert "has not happened yet" in view["summary"]


async def test_what_is_changed_is_changed_and_the_rest_stays(service_url: str) -> None:
    """A wrong new time leaves the old one as it was."""
    made = await call_for_result(
        service_url, "create_schedule", **DAILY_SCHEDULE, name="a", overlap="allow"
    )
    schedule_id = made["schedule_id"]

    wrong = await call_tool(
        service_url, "update_schedule", schedule_id=schedule_id, cron="* * * * *", name="b"
    )
    nothing = await call_tool(service_url, "update_schedule", schedule_id=schedule_id)
    renamed = await call_for_result(
        service_url, "update_schedule", schedule_id=schedule_id, name="b"
    )
    moved = await call_for_result(
        service_url, "update_schedule", schedule_id=schedule_id, timezone="Asia/Kathmandu"
    )

    assert "more often than every 5 minutes" in answer_text(wrong)
    assert "nothing to change" in answer_text(nothing)
    assert (renamed["name"], renamed["next_run_at"]) == ("b", made["next_run_at"])
    assert (moved["name"], moved["cron"], moved["overlap"]) == ("b", "@daily", "allow")
    assert moved["next_run_at"].endswith("T18:15:00Z")


WRONG_ARGUMENTS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "nothing to launch": ({}, "Give one of job, inference and space"),
    "two things to launch": (
        {"job": JOB_ARGUMENTS, "inference": CALL_ARGUMENTS},
        "Give one of job",
    ),
    "an argument of one job": (
        {"job": JOB_ARGUMENTS | {"idempotency_key": "k"}},
        "job: idempotency_key is about one job",
    ),
    "a job that is to wait": (
        {"job": JOB_ARGUMENTS | {"after": ["job_x"]}},
        "job: after is about one job",
    ),
    "an argument there is not": (
        {"job": JOB_ARGUMENTS | {"imgae": "x"}},
        "job: There is no argument imgae",
    ),
    "a missing argument": ({"inference": {"model": "m/m"}}, "inputs is missing"),
    "items of one batch": (
        {"inference": {"model": "m/m", "items": [{"custom_id": "a", "inputs": "Hi"}]}},
        "give items_from",
    ),
    "several at once": (
        {"job": JOB_ARGUMENTS | {"flavor": "A10G!", "timeout": "-5"}},
        "job: flavor: .* timeout: ",
    ),
    "a flavor there is not": (
        {"job": JOB_ARGUMENTS | {"flavor": "a10g-smal"}},
        "no flavor 'a10g-smal'",
    ),
    "too dear": ({"job": JOB_ARGUMENTS | {"max_cost_usd": 0.000001}}, "max_cost_usd is"),
    "a time that never comes": (
        {"job": JOB_ARGUMENTS, "cron": "0 0 31 2 *"},
        "cron: '0 0 31 2 \\*' cannot",
    ),
    "a zone there is not": (
        {"job": JOB_ARGUMENTS, "timezone": "Mars"},
        "there is no time zone 'Mars'",
    ),
}


async def test_a_schedule_that_could_only_fail_is_refused_as_its_launch_would_be(
    service_url: str, database: Database
) -> None:
    """Found out at three in the morning, a typo has cost a night."""
    for what, (arguments, pattern) in WRONG_ARGUMENTS.items():
        answer = await call_tool(service_url, "create_schedule", **{"cron": "@daily"} | arguments)

        assert read_refusal(answer)["code"] == "Invalid", what
        assert re.search(pattern, answer_text(answer)), f"{what}: {answer_text(answer)}"
    assert await count_rows(database) == 0


async def test_no_secret_is_shown_or_kept_in_the_open(service_url: str, database: Database) -> None:
    """Those of a schedule live as long as it does."""
    secret = "hunter2-hunter2"

    made = await call_tool(
        service_url,
        "create_schedule",
        cron="@daily",
        job=JOB_ARGUMENTS | {"secrets": {"KEY": secret}},
    )
    wrong = await call_tool(
        service_url, "create_schedule", cron="@daily", job=f'{{"secrets": {{"K": "{secret}"}}'
    )

    assert not made.is_error
    assert wrong.is_error
    assert secret not in answer_text(made) + answer_text(wrong)
    async with database.transaction() as tx:
        rows = [
            str(row)
            for table in ("schedule", "schedule_secret", "audit_entry")
            for row in await tx.fetch(f"SELECT it::text FROM {table} AS it")  # noqa: S608  # our names
        ]
    assert len(rows) > 2
    assert secret not in "".join(rows)


async def test_the_same_key_is_the_same_schedule(service_url: str, database: Database) -> None:
    """A client that never saw the answer calls again."""
    first = await call_for_result(
        service_url, "create_schedule", **DAILY_SCHEDULE, idempotency_key="k"
    )
    again = await call_for_result(
        service_url, "create_schedule", **DAILY_SCHEDULE, idempotency_key="k"
    )
    other = await call_tool(
        service_url, "create_schedule", cron="@hourly", job=JOB_ARGUMENTS, idempotency_key="k"
    )

    assert first["schedule_id"] == again["schedule_id"]
    assert read_refusal(other)["code"] == "IdempotencyConflict"
    assert "cron" in answer_text(other)
    assert await count_rows(database) == 1


async def test_the_same_key_with_another_secret_is_another_schedule(
    service_url: str, database: Database
) -> None:
    """Its jobs would run with a value that the caller has replaced."""
    schedule: dict[str, Any] = {"cron": "@daily", "idempotency_key": "k"}
    first, again, other = [
        await call_tool(
            service_url,
            "create_schedule",
            **schedule,
            job=JOB_ARGUMENTS | {"secrets": {"A1": value}},
        )
        for value in ("first value", "first value", "second value")
    ]

    assert answer_text(first) == answer_text(again)
    assert read_refusal(other)["code"] == "IdempotencyConflict"
    assert "differs in secrets." in answer_text(other)
    assert await count_rows(database) == 1


async def test_a_person_agrees_once_to_what_each_time_may_cost(
    service_url: str, database: Database
) -> None:
    """A schedule would otherwise be the way around being asked."""
    made = await call_for_result(service_url, "create_workspace", name="w")
    workspace_id = made["workspace_id"]
    await call_for_result(
        service_url, "update_workspace", workspace_id=workspace_id, confirm_above_usd=0.0001
    )
    arguments: dict[str, Any] = {
        "cron": "@daily",
        "job": JOB_ARGUMENTS | {"workspace_id": workspace_id},
    }

    question = await call_tool(service_url, "create_schedule", **arguments)
    seal = re.search(r'confirm="([^"]+)"', answer_text(question))
    assert seal is not None
    agreed = await call_for_result(service_url, "create_schedule", **arguments, confirm=seal[1])
    again = await call_for_result(service_url, "create_schedule", **arguments, confirm=seal[1])
    elsewhen = await call_tool(
        service_url, "create_schedule", **arguments | {"cron": "@hourly"}, confirm=seal[1]
    )

    assert read_refusal(question)["code"] == "NeedsConfirmation"
    assert 'Each time "@daily" comes round' in answer_text(question)
    assert agreed["schedule_id"] == again["schedule_id"]
    assert read_refusal(elsewhen)["code"] == "NeedsConfirmation"
    assert await count_rows(database) == 1


async def test_a_workspace_that_is_put_away_takes_no_schedule(service_url: str) -> None:
    """None of its jobs could ever be launched."""
    made = await call_for_result(service_url, "create_workspace", name="w")
    await call_for_result(service_url, "archive_workspace", workspace_id=made["workspace_id"])

    answer = await call_tool(
        service_url,
        "create_schedule",
        cron="@daily",
        job=JOB_ARGUMENTS | {"workspace_id": made["workspace_id"]},
    )

    assert read_refusal(answer)["code"] == "WorkspaceArchived"


async def test_a_schedule_says_how_long_it_can_fire_by_itself(
    service_url: str, fake_hub: FakeHub
) -> None:
    """It acts with its owner's token, and a token of OAuth lives for hours."""
    lasting = await call_tool(service_url, "create_schedule", **DAILY_SCHEDULE)
    ends = (datetime.now(UTC) + timedelta(hours=8)).isoformat(timespec="seconds")
    fake_hub.whoami_by_token["hf_short"] = fake_hub.whoami_by_token[ADA_TOKEN] | {
        "auth": {"type": "access_token", "accessToken": {"role": "write"}, "expiresAt": ends}
    }

    short = await call_tool(
        service_url, "create_schedule", caller_token="hf_short", **DAILY_SCHEDULE
    )

    assert "token ends" not in answer_text(lasting)
    assert f"Your Hugging Face token ends at {ends[:16]}" in answer_text(short)


async def test_a_token_schedules_no_more_than_it_may_launch(
    service_url: str, fake_hub: FakeHub, database: Database
) -> None:
    """What the caller may not do now, nobody does for them tonight."""
    fake_hub.denied_namespaces["ada"] = "no billing"
    no_billing = await call_tool(service_url, "create_schedule", **DAILY_SCHEDULE)
    reader = await call_tool(
        service_url, "create_schedule", caller_token="hf_reader", **DAILY_SCHEDULE
    )
    entity = {"_id": "1", "type": "user", "name": "ada"}
    scoped = [{"entity": entity, "permissions": ["inference.serverless.write"]}]
    role: dict[str, Any] = {"role": "fineGrained", "fineGrained": {"scoped": scoped}}
    call_only = {"type": "access_token", "accessToken": role}
    fake_hub.whoami_by_token["hf_calls"] = fake_hub.whoami_by_token[ADA_TOKEN] | {"auth": call_only}
    half = await call_tool(
        service_url, "create_schedule", caller_token="hf_calls", **DAILY_SCHEDULE
    )

    assert "no billing" in answer_text(no_billing)
    assert read_refusal(half)["code"] == "InsufficientScope"
    assert reader.is_error
    assert await count_rows(database) == 0
    assert await call_for_result(
        service_url,
        "create_schedule",
        caller_token="hf_calls",
        cron="@daily",
        inference=CALL_ARGUMENTS,
    )
