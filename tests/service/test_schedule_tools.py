"""Schedules as a client sees them, from the first dry run to what is left when one is gone."""

import re
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import anyio
import pytest

from schema.accounts.row_security import Role
from schema.accounts.vault import Vault
from schema.common import ids
from schema.common.ids import Kind
from schema.db.database import Database
from schema.settings import Settings
from tests.schema.timetable import set_due
from tests.service.stand_in import ADAS, Whoami, call, refusal, shown, text
from workers.context import Worker
from workers.hub.client import hub as hub_of
from workers.loops.fire_schedules import fire

JOB: Final[dict[str, Any]] = {"image": "python:3.12", "command": ["true"], "timeout": "10m"}
CALL: Final[dict[str, Any]] = {"model": "m/m", "inputs": "Hi"}
DAILY: Final[dict[str, Any]] = {"cron": "@daily", "job": JOB}


@pytest.fixture
async def worker(
    database_url: str, vault: Vault, settings: Callable[..., Settings], hub: Whoami
) -> AsyncGenerator[Worker]:
    """A worker without loops."""
    async with (
        hub_of(hub.url, hub.url) as gateway,
        Database(database_url, application="w", role=Role.WORKER) as database,
    ):
        yield Worker(
            name="w",
            settings=settings(lease="1s", post_timeout="100ms", settle="100ms"),
            database=database,
            vault=vault,
            hub=gateway,
            executors={},
        )


async def fall_due(database: Database, schedule_id: str, ago: timedelta = timedelta(0)) -> None:
    await set_due(database, ids.read(Kind.SCHEDULE, schedule_id), ago)


async def listed(service: str, schedule_id: str) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = (await shown(service, "list_jobs", schedule_id=schedule_id))[
        "jobs"
    ]
    return answer


async def keep_firing(worker: Worker) -> None:
    while True:
        await fire(worker)
        await anyio.sleep(0.05)  # as the sweep does; it is cancelled when the calls are answered


async def count(database: Database) -> int:
    async with database.transaction() as tx:
        made: int = await tx.fetchval("SELECT count(*) FROM schedule")
    return made


async def test_a_dry_run_shows_the_next_times_and_makes_nothing(
    service: str, database: Database
) -> None:
    """Whoever misreads cron finds out before anything fires."""
    answer = await call(
        service,
        "create_schedule",
        cron="0 9 * * 1-5",
        timezone="europe/paris",
        job=JOB,
        dry_run=True,
    )

    view = answer.structured_content
    assert view is not None
    times = [datetime.fromisoformat(each) for each in view["next_runs"]]
    assert len(set(times)) == 5
    assert {(moment.hour, moment.minute) for moment in times} == {(9, 0)}
    assert {moment.utcoffset() for moment in times} <= {timedelta(hours=1), timedelta(hours=2)}
    assert all(moment.weekday() < 5 for moment in times)
    assert view["next_runs"][0] in text(answer)
    assert view["ceiling_usd"] > 0
    assert await count(database) == 0


async def test_what_a_schedule_launched_is_found_by_it_also_when_it_is_gone(
    service: str, database: Database, worker: Worker
) -> None:
    """Each is an ordinary job, with a handle of its own, that outlives its schedule."""
    made = await shown(service, "create_schedule", **DAILY, name="nightly")
    other = await shown(service, "create_schedule", **DAILY)
    schedule_id = made["schedule_id"]
    assert made["next_run_at"].endswith("T00:00:00Z")
    assert await listed(service, schedule_id) == []
    await fall_due(database, schedule_id)

    await fire(worker)

    [job] = await listed(service, schedule_id)
    assert await listed(service, other["schedule_id"]) == []
    assert (job["schedule_id"], job["timeout"]) == (schedule_id, "10m")
    page = await shown(service, "list_schedules", limit=1, cursor=other["schedule_id"])
    [seen] = page["schedules"]
    assert (seen["name"], page["next_cursor"]) == ("nightly", None)
    assert seen["last"]["became"] == "launched"
    assert job["job_id"] in seen["summary"]

    await shown(service, "delete_schedule", schedule_id=schedule_id)

    assert [each["job_id"] for each in await listed(service, schedule_id)] == [job["job_id"]]
    gone = await call(service, "delete_schedule", schedule_id=schedule_id)
    assert refusal(gone)["code"] == "NotFound"


async def test_a_pause_ends_without_a_burst(
    service: str, database: Database, worker: Worker
) -> None:
    """Whoever pauses for a week wants none of that week's jobs."""
    made = await shown(service, "create_schedule", cron="*/5 * * * *", job=JOB)
    schedule_id = made["schedule_id"]
    await fall_due(database, schedule_id, timedelta(days=7))
    paused = await shown(service, "update_schedule", schedule_id=schedule_id, paused=True)
    assert (paused["paused"], paused["next_run_at"], paused["next_runs"]) == (True, None, [])
    while await fire(worker):
        pass

    again = await shown(service, "update_schedule", schedule_id=schedule_id, paused=False)
    while await fire(worker):
        pass

    assert datetime.fromisoformat(again["next_run_at"]) > datetime.now(UTC) - timedelta(minutes=1)
    assert again["firings"] == []
    assert await listed(service, schedule_id) == []


async def test_a_firing_that_is_asked_for_is_answered_with_its_job(
    service: str, worker: Worker
) -> None:
    """A model that has to look for the job of its own call may take another for it."""
    made = await shown(service, "create_schedule", **DAILY)
    schedule_id = made["schedule_id"]

    given: dict[str, Any] = {"schedule_id": schedule_id, "run_now": True}
    answers: list[dict[str, Any]] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_firing, worker)
        answers.append(await shown(service, "update_schedule", **given))
        answers.append(await shown(service, "update_schedule", **given))
        tasks.cancel_scope.cancel()

    first, second = answers
    [job] = await listed(service, schedule_id)
    assert first["last"]["job_id"] == job["job_id"]
    assert first["next_run_at"] == made["next_run_at"]
    assert (second["last"]["became"], second["last"]["job_id"]) == ("skipped", job["job_id"])


async def test_a_firing_nobody_is_there_for_is_said_to_be_outstanding(service: str) -> None:
    """It is kept, and made as soon as a worker is back."""
    made = await shown(service, "create_schedule", **DAILY)

    asked = await shown(service, "update_schedule", schedule_id=made["schedule_id"], run_now=True)

    assert asked["last"] is None
    assert "has not happened yet" in asked["summary"]


async def test_what_is_changed_is_changed_and_the_rest_stays(service: str) -> None:
    """A wrong new time leaves the old one as it was."""
    made = await shown(service, "create_schedule", **DAILY, name="a", overlap="allow")
    schedule_id = made["schedule_id"]

    wrong = await call(
        service, "update_schedule", schedule_id=schedule_id, cron="* * * * *", name="b"
    )
    nothing = await call(service, "update_schedule", schedule_id=schedule_id)
    renamed = await shown(service, "update_schedule", schedule_id=schedule_id, name="b")
    moved = await shown(
        service, "update_schedule", schedule_id=schedule_id, timezone="Asia/Kathmandu"
    )

    assert "more often than every 5 minutes" in text(wrong)
    assert "nothing to change" in text(nothing)
    assert (renamed["name"], renamed["next_run_at"]) == ("b", made["next_run_at"])
    assert (moved["name"], moved["cron"], moved["overlap"]) == ("b", "@daily", "allow")
    assert moved["next_run_at"].endswith("T18:15:00Z")


WRONG: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "nothing to launch": ({}, "Give one of job, inference and space"),
    "two things to launch": ({"job": JOB, "inference": CALL}, "Give one of job"),
    "an argument of one job": (
        {"job": JOB | {"idempotency_key": "k"}},
        "job: idempotency_key is about one job",
    ),
    "a job that is to wait": ({"job": JOB | {"after": ["job_x"]}}, "job: after is about one job"),
    "an argument there is not": ({"job": JOB | {"imgae": "x"}}, "job: There is no argument imgae"),
    "a missing argument": ({"inference": {"model": "m/m"}}, "inputs is missing"),
    "items of one batch": (
        {"inference": {"model": "m/m", "items": [{"custom_id": "a", "inputs": "Hi"}]}},
        "give items_from",
    ),
    "several at once": (
        {"job": JOB | {"flavor": "A10G!", "timeout": "-5"}},
        "job: flavor: .* timeout: ",
    ),
    "a flavor there is not": ({"job": JOB | {"flavor": "a10g-smal"}}, "no flavor 'a10g-smal'"),
    "too dear": ({"job": JOB | {"max_cost_usd": 0.000001}}, "max_cost_usd is"),
    "a time that never comes": ({"job": JOB, "cron": "0 0 31 2 *"}, "cron: '0 0 31 2 \\*' cannot"),
    "a zone there is not": ({"job": JOB, "timezone": "Mars"}, "there is no time zone 'Mars'"),
}


async def test_a_schedule_that_could_only_fail_is_refused_as_its_launch_would_be(
    service: str, database: Database
) -> None:
    """Found out at three in the morning, a typo has cost a night."""
    for what, (given, said) in WRONG.items():
        answer = await call(service, "create_schedule", **{"cron": "@daily"} | given)

        assert refusal(answer)["code"] == "Invalid", what
        assert re.search(said, text(answer)), f"{what}: {text(answer)}"
    assert await count(database) == 0


async def test_no_secret_is_shown_or_kept_in_the_open(service: str, database: Database) -> None:
    """Those of a schedule live as long as it does."""
    secret = "hunter2-hunter2"

    made = await call(
        service, "create_schedule", cron="@daily", job=JOB | {"secrets": {"KEY": secret}}
    )
    wrong = await call(
        service, "create_schedule", cron="@daily", job=f'{{"secrets": {{"K": "{secret}"}}'
    )

    assert not made.is_error
    assert wrong.is_error
    assert secret not in text(made) + text(wrong)
    async with database.transaction() as tx:
        rows = [
            str(row)
            for table in ("schedule", "schedule_secret", "audit_entry")
            for row in await tx.fetch(f"SELECT it::text FROM {table} AS it")  # noqa: S608  # our names
        ]
    assert len(rows) > 2
    assert secret not in "".join(rows)


async def test_the_same_key_is_the_same_schedule(service: str, database: Database) -> None:
    """A client that never saw the answer calls again."""
    first = await shown(service, "create_schedule", **DAILY, idempotency_key="k")
    again = await shown(service, "create_schedule", **DAILY, idempotency_key="k")
    other = await call(service, "create_schedule", cron="@hourly", job=JOB, idempotency_key="k")

    assert first["schedule_id"] == again["schedule_id"]
    assert refusal(other)["code"] == "IdempotencyConflict"
    assert "cron" in text(other)
    assert await count(database) == 1


async def test_a_person_agrees_once_to_what_each_time_may_cost(
    service: str, database: Database
) -> None:
    """A schedule would otherwise be the way around being asked."""
    made = await shown(service, "create_workspace", name="w")
    workspace_id = made["workspace_id"]
    await shown(service, "update_workspace", workspace_id=workspace_id, confirm_above_usd=0.0001)
    given: dict[str, Any] = {"cron": "@daily", "job": JOB | {"workspace_id": workspace_id}}

    asked = await call(service, "create_schedule", **given)
    seal = re.search(r'confirm="([^"]+)"', text(asked))
    assert seal is not None
    agreed = await shown(service, "create_schedule", **given, confirm=seal[1])
    again = await shown(service, "create_schedule", **given, confirm=seal[1])
    elsewhen = await call(
        service, "create_schedule", **given | {"cron": "@hourly"}, confirm=seal[1]
    )

    assert refusal(asked)["code"] == "NeedsConfirmation"
    assert 'Each time "@daily" comes round' in text(asked)
    assert agreed["schedule_id"] == again["schedule_id"]
    assert refusal(elsewhen)["code"] == "NeedsConfirmation"
    assert await count(database) == 1


async def test_a_workspace_that_is_put_away_takes_no_schedule(service: str) -> None:
    """None of its jobs could ever be launched."""
    made = await shown(service, "create_workspace", name="w")
    await shown(service, "archive_workspace", workspace_id=made["workspace_id"])

    answer = await call(
        service, "create_schedule", cron="@daily", job=JOB | {"workspace_id": made["workspace_id"]}
    )

    assert refusal(answer)["code"] == "WorkspaceArchived"


async def test_a_schedule_says_how_long_it_can_fire_by_itself(service: str, hub: Whoami) -> None:
    """It acts with its owner's token, and a token of OAuth lives for hours."""
    lasting = await call(service, "create_schedule", **DAILY)
    ends = (datetime.now(UTC) + timedelta(hours=8)).isoformat(timespec="seconds")
    hub.answers["hf_short"] = hub.answers[ADAS] | {
        "auth": {"type": "access_token", "accessToken": {"role": "write"}, "expiresAt": ends}
    }

    short = await call(service, "create_schedule", by="hf_short", **DAILY)

    assert "token ends" not in text(lasting)
    assert f"Your Hugging Face token ends at {ends[:16]}" in text(short)


async def test_a_token_schedules_no_more_than_it_may_launch(
    service: str, hub: Whoami, database: Database
) -> None:
    """What the caller may not do now, nobody does for them tonight."""
    hub.denied["ada"] = "no billing"
    no_billing = await call(service, "create_schedule", **DAILY)
    reader = await call(service, "create_schedule", by="hf_reader", **DAILY)
    entity = {"_id": "1", "type": "user", "name": "ada"}
    scoped = [{"entity": entity, "permissions": ["inference.serverless.write"]}]
    role: dict[str, Any] = {"role": "fineGrained", "fineGrained": {"scoped": scoped}}
    call_only = {"type": "access_token", "accessToken": role}
    hub.answers["hf_calls"] = hub.answers[ADAS] | {"auth": call_only}
    half = await call(service, "create_schedule", by="hf_calls", **DAILY)

    assert "no billing" in text(no_billing)
    assert refusal(half)["code"] == "InsufficientScope"
    assert reader.is_error
    assert await count(database) == 0
    assert await shown(service, "create_schedule", by="hf_calls", cron="@daily", inference=CALL)
