"""Everything Bob can try with what is Ada's: he learns nothing, and changes nothing (I5)."""

import json
from typing import Any, Final

import asyncpg
import pytest

from schema.common import ids
from schema.common.ids import Kind
from schema.db.database import Database
from tests.conftest import JobFactory
from tests.service.attack import BESIDES, BOBS, META, Answer, Place, Way, send, use
from tests.service.lives import LIVES, Worker, lived
from tests.service.stand_in import ADA, ADAS, BOB, post, shown

HANDLES: Final = {
    "job_id": Kind.JOB,
    "job_ids": Kind.JOB,
    "rerun_of": Kind.JOB,
    "after": Kind.JOB,
    "workspace_id": Kind.WORKSPACE,
    "schedule_id": Kind.SCHEDULE,
}
"""Arguments that name something of somebody's, in whichever tool."""
CURSORS: Final = {
    "list_jobs": Kind.JOB,
    "list_workspaces": Kind.WORKSPACE,
    "list_schedules": Kind.SCHEDULE,
}
"""Tools whose `cursor` is a handle; nothing is looked up by it."""
NAMES_NOTHING: Final = {
    *("image", "command", "flavor", "timeout", "env", "secrets", "labels", "name"),
    *("mode", "until", "timeout_seconds", "on"),
    "since_version",  # of jobs that stand in job_ids, or it is refused; tried in test_waits
    *("model", "inputs", "task", "parameters", "provider", "state", "kind", "grep"),
    *("max_cost_usd", "max_price", "budget_usd"),
    *("defaults", "confirm_above_usd", "overrides", "since", "confirm"),
    *("space", "api_name", "arguments"),  # of a Space: the Hub is asked whether the caller sees it
    *("script", "script_args", "dependencies", "python", "expose", "outputs"),
    *("volumes", "resource_group_id", "bill_to"),  # of the Hub, which asks what the token reaches
    *("items", "on_unknown", "only"),
    "items_from",  # of the Hub, which is read with the caller's own token
    *("cron", "timezone", "overlap", "missed"),
    *("job", "inference"),  # whole requests, which name workspaces; tried below
    "namespace",  # of the Hub, which is asked whether the caller reaches it
    "idempotency_key",  # of the caller's own; tried below
}
FORGED: Final = ("subject", "subject_id", "user", "user_id", "caller", "token", "app", "ctx")


@pytest.fixture
async def places(service: str) -> list[Place]:
    """Every argument of every tool, as the service lists them to whoever may use them all."""
    listed = (await post(service, "tools/list")).json()["result"]["tools"]
    return [
        Place(tool["name"], argument, schema)
        for tool in listed
        for argument, schema in tool["inputSchema"]["properties"].items()
    ]


def naming(places: list[Place], kind: Kind) -> list[Place]:
    """Choose the places where a handle of that kind goes."""
    chosen = [place for place in places if HANDLES.get(place.argument) is kind]
    assert chosen
    return chosen


async def rows(database: Database) -> list[str]:
    """Read everything that an attack could change, or make."""
    tables = ("job", "job_payload", "job_event", "remote_run", "log_chunk", "poll_group")
    async with database.transaction() as tx:
        return [
            row["text"]
            for table in (*tables, "job_log", "workspace", "idempotency_key", "schedule")
            for row in await tx.fetch(f"SELECT it::text AS text FROM {table} AS it ORDER BY 1")  # noqa: S608
        ]


async def test_whoever_adds_an_argument_says_whether_it_names_something(
    places: list[Place],
) -> None:
    """An argument nobody thought about would be the one that is not attacked below."""
    unknown = [
        f"{place.tool}({place.argument})"
        for place in places
        if place.takes_text
        and place.argument not in HANDLES.keys() | NAMES_NOTHING
        and not (place.argument == "cursor" and place.tool in CURSORS)
    ]

    assert unknown == [], "say in tests/service/test_attacks.py whether these name something"


@pytest.mark.parametrize("life", LIVES)
async def test_a_foreign_job_is_not_told_from_none_whatever_became_of_it(
    service: str, places: list[Place], database: Database, make_job: JobFactory, life: str
) -> None:
    """Whoever steals a handle learns nothing by any tool, and can stop nothing."""
    foreign = ids.write(Kind.JOB, (await lived(Worker(database), make_job, life)).id)
    before = await rows(database)

    # Whichever way it is asked, the tool is the same: one life of a job is tried in all of them.
    ways = list(Way) if life == "running" else [Way.MODERN]
    for place in naming(places, Kind.JOB):
        for way in ways:
            nobodys = ids.write(Kind.JOB, ids.new_id())
            theirs = await use(service, place.tool, place.given(foreign), way=way)
            none = await use(service, place.tool, place.given(nobodys), way=way)
            assert theirs.about(foreign) == none.about(nobodys), f"{place.tool}, {way}"
            assert none.code == "NotFound", f"{place.tool}: {none.body!r}"

    assert await rows(database) == before
    for place in naming(places, Kind.JOB):
        hers = await use(service, place.tool, place.given(foreign), by=ADAS)
        assert hers.code != "NotFound", "nothing was attacked"


async def test_a_foreign_workspace_is_not_told_from_none(
    service: str, places: list[Place], database: Database
) -> None:
    """Its handle neither opens it, nor puts a job of somebody else's into it."""
    made = await shown(service, "create_workspace", name="hers")
    foreign: str = made["workspace_id"]
    await shown(service, "launch_job", **BESIDES["launch_job"], workspace_id=foreign)
    before = await rows(database)

    for place in naming(places, Kind.WORKSPACE):
        for way in Way:
            nobodys = ids.write(Kind.WORKSPACE, ids.new_id())
            theirs = await use(service, place.tool, place.given(foreign), way=way)
            none = await use(service, place.tool, place.given(nobodys), way=way)
            assert theirs.about(foreign) == none.about(nobodys), f"{place.tool}, {way}"
            assert none.code == "NotFound", f"{place.tool}: {none.body!r}"

    assert await rows(database) == before
    assert (await shown(service, "list_jobs", by=BOBS))["jobs"] == []
    for place in naming(places, Kind.WORKSPACE):
        hers = await use(service, place.tool, place.given(foreign), by=ADAS)
        assert hers.code is None, f"{place.tool}: nothing was attacked"


async def test_a_foreign_schedule_is_not_told_from_none(
    service: str, places: list[Place], database: Database
) -> None:
    """Whoever fires, or changes, another's schedule spends their money while they sleep."""
    made = await shown(service, "create_schedule", **BESIDES["create_schedule"])
    foreign: str = made["schedule_id"]
    before = await rows(database)

    for place in naming(places, Kind.SCHEDULE):
        for way in Way:
            nobodys = ids.write(Kind.SCHEDULE, ids.new_id())
            theirs = await use(service, place.tool, place.given(foreign), way=way)
            none = await use(service, place.tool, place.given(nobodys), way=way)
            assert theirs.about(foreign) == none.about(nobodys), f"{place.tool}, {way}"
            assert none.code == "NotFound", f"{place.tool}: {none.body!r}"

    assert await rows(database) == before
    for place in naming(places, Kind.SCHEDULE):
        hers = await use(service, place.tool, place.given(foreign), by=ADAS)
        assert hers.code != "NotFound", "nothing was attacked"


@pytest.mark.parametrize("argument", ["job", "inference"])
async def test_no_schedule_launches_into_a_foreign_workspace(service: str, argument: str) -> None:
    """Its jobs would be counted there, and take what it fills in."""
    foreign: str = (await shown(service, "create_workspace", name="hers"))["workspace_id"]
    nobodys = ids.write(Kind.WORKSPACE, ids.new_id())
    work = BESIDES["launch_job" if argument == "job" else "launch_inference"]

    theirs, none = [
        await use(
            service,
            "create_schedule",
            {"cron": "@daily", "job": None, argument: {**work, "workspace_id": each}},
        )
        for each in (foreign, nobodys)
    ]

    assert theirs.about(foreign) == none.about(nobodys)
    assert none.code == "NotFound"


async def test_a_foreign_cursor_is_only_a_moment_in_time(service: str, places: list[Place]) -> None:
    """What is listed is the caller's own, from whichever handle it is listed on."""
    for token in (BOBS, ADAS):
        await shown(service, "create_workspace", by=token, name="same")
        job = await shown(service, "launch_job", by=token, **BESIDES["launch_job"])
        await shown(service, "cancel_job", by=token, job_id=job["job_id"])
        await shown(service, "create_schedule", by=token, **BESIDES["create_schedule"])
    foreign = {
        Kind.JOB: (await shown(service, "list_jobs"))["jobs"][0]["job_id"],
        Kind.WORKSPACE: (await shown(service, "list_workspaces"))["workspaces"][0]["workspace_id"],
        Kind.SCHEDULE: (await shown(service, "list_schedules"))["schedules"][0]["schedule_id"],
    }
    tools = [place.tool for place in places if place.argument == "cursor" and place.takes_text]

    assert sorted(tools) == sorted(CURSORS)
    for tool, kind in CURSORS.items():
        for way in Way:
            nobodys = ids.write(kind, ids.new_id())
            theirs = await use(service, tool, {"cursor": foreign[kind]}, way=way)
            none = await use(service, tool, {"cursor": nobodys}, way=way)
            assert theirs == none, f"{tool}, {way}"
            assert ADA not in theirs.body.decode()
            assert len(theirs.handles()) == 1, "nothing was listed"
            assert foreign[kind].encode() not in theirs.body


async def test_among_many_handles_the_foreign_ones_do_not_stand_out(
    service: str, make_job: JobFactory
) -> None:
    """One call can try fifty handles."""
    own = (await shown(service, "launch_job", by=BOBS, **BESIDES["launch_job"]))["job_id"]
    await shown(service, "cancel_job", by=BOBS, job_id=own)
    foreign = [ids.write(Kind.JOB, (await make_job()).id) for _ in range(24)]
    nobodys = [ids.write(Kind.JOB, ids.new_id()) for _ in foreign]
    mixed = [own, "job_not-one", *foreign]

    for way in Way:
        theirs = await use(service, "job_status", {"job_ids": mixed}, way=way)
        none = await use(
            service, "job_status", {"job_ids": [own, "job_not-one", *nobodys]}, way=way
        )
        for handle, other in zip(foreign, nobodys, strict=True):
            theirs, none = theirs.about(handle), none.about(other)
        assert theirs == none, way
        assert none.body.count(b"NotFound") >= len(nobodys)


async def test_filters_and_lists_show_nothing_of_anybody_elses(
    service: str, make_job: JobFactory
) -> None:
    """What cannot be asked for by its handle cannot be found by its traits."""
    await make_job(labels={"team": "nlp"})
    await shown(service, "create_workspace", name="hers")

    for arguments in ({}, {"labels": {"team": "nlp"}}, {"state": "queued"}, {"kind": "hub_job"}):
        assert (await shown(service, "list_jobs", by=BOBS, **arguments))["jobs"] == []
    assert (await shown(service, "list_workspaces", by=BOBS))["workspaces"] == []
    assert (await shown(service, "whoami", by=BOBS))["open_jobs"] == 0
    assert (await shown(service, "create_workspace", by=BOBS, name="hers"))["created"]


async def test_anothers_idempotency_key_is_free(service: str) -> None:
    """A key is a word of its owner's: it neither finds their job nor stands in the way."""
    for way in Way:
        for request in ({}, {"image": "another"}):
            key = f"{way} {request}"
            hers = await use(service, "launch_job", {"idempotency_key": key}, by=ADAS)
            taken, free = [
                await launched_alone(service, request | {"idempotency_key": own}, way)
                for own in (key, f"{key}!")
            ]
            assert taken.anonymous() == free.anonymous(), way
            assert taken.code is None
            assert taken.handles().isdisjoint(hers.handles())


async def launched_alone(service: str, request: dict[str, Any], way: Way) -> Answer:
    """Launch with nothing of one's own before it in the queue, now or later."""
    answer = await use(service, "launch_job", request, way=way)
    for handle in answer.handles():
        await shown(service, "cancel_job", by=BOBS, job_id=handle)
    return answer


async def test_the_same_request_of_somebody_else_is_no_duplicate(service: str) -> None:
    """That anybody asked for the same minutes ago is theirs to know."""
    await shown(service, "launch_job", **BESIDES["launch_job"])

    view = await shown(service, "launch_job", by=BOBS, **BESIDES["launch_job"])

    assert view["possible_duplicate_of"] is None


async def test_no_argument_makes_a_caller_somebody_else(
    service: str, places: list[Place], make_job: JobFactory, database: Database
) -> None:
    """Whose call it is stands in the token; a tool that took it as an argument would be lied to."""
    await make_job()
    before = await rows(database)
    whole: dict[str, dict[str, Any]] = {"whoami": {}}
    for place in places:
        whole[place.tool] = {}
    for place in naming(places, Kind.JOB):
        whole[place.tool] |= place.given(ids.write(Kind.JOB, ids.new_id()))

    for tool, arguments in whole.items():
        for name in FORGED:
            answer = await use(service, tool, arguments | {name: ADA})
            assert answer.code == "Invalid", f"{tool}({name}): {answer.body!r}"
            assert f"There is no argument {name}".encode() in answer.body

    assert await rows(database) == before
    assert (await shown(service, "list_jobs", by=BOBS))["jobs"] == []


async def test_no_header_and_no_metadata_makes_a_caller_somebody_else(service: str) -> None:
    """Only the first token counts; nothing else that names a person is read."""
    forged: dict[str, Any] = {
        "authorization": f"Bearer {BOBS}",
        "x_hf_authorization": f"Bearer {ADAS}",
        "x_forwarded_user": ADA,
        "x_holdfast_subject": ADA,
    }
    meta = {"subject": ADA, "holdfast/subject": ADA, f"{META}/clientInfo": {"name": ADA}}

    params = {"name": "whoami", "arguments": {}, "_meta": meta}
    answer = (await post(service, "tools/call", params, **forged)).json()

    assert answer["result"]["structuredContent"]["subject_id"] == BOB


async def test_nothing_else_can_be_asked_for_a_handle(service: str, make_job: JobFactory) -> None:
    """For what can be: test_surface_attacks and test_task_attacks."""
    job = await make_job()
    handle = ids.write(Kind.JOB, job.id)
    tasks = {f"tasks/{verb}": {"taskId": handle} for verb in ("get", "cancel", "result", "update")}
    tasks["tasks/list"] = {}
    listening: dict[str, dict[str, Any]] = {
        "resources/subscribe": {"uri": f"job://{handle}"},
        "subscriptions/listen": {"notifications": {"resourceSubscriptions": [f"job://{handle}"]}},
    }
    asked = [(Way.LEGACY, tasks | listening), (Way.MODERN, tasks)]
    for way, named in asked:
        for method, params in named.items():
            answer = await send(service, way, method, params, ADAS)
            error = json.loads(answer.body).get("error", {})
            assert error, f"{method} is answered: attack it"
            assert job.title.encode() not in answer.body


async def test_the_service_speaks_to_postgres_as_the_tenant(
    service: str, database_url: str, make_job: JobFactory
) -> None:
    """As its login it would be outside the wall, and nobody would see that in an answer."""
    await make_job()
    admin: asyncpg.Connection = await asyncpg.connect(database_url)
    try:
        await admin.execute("REVOKE SELECT ON job FROM holdfast_tenant")
    finally:
        await admin.close()

    answer = await use(service, "list_jobs", {}, by=ADAS)

    assert b'"isError":true' in answer.body
