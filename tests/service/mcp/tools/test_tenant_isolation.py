"""Everything Bob can try with what is Ada's: he learns nothing, and changes nothing (I5)."""

import json
from typing import Any, Final

import asyncpg
import pytest

from schema.common import ids
from schema.common.ids import HandleKind
from schema.db.database import Database
from tests.support.database.all_rows import read_all_rows
from tests.support.factories import JobFactory
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import JOB_HISTORIES, RunDriver, make_job_with_history
from tests.support.mcp.client import call_for_result, post_message
from tests.support.mcp.observed_answers import (
    META_PREFIX,
    ObservedAnswer,
    ProtocolVariant,
    ToolArgument,
    call_tool,
    send_message,
)
from tests.support.mcp.valid_arguments import REQUIRED_ARGUMENTS
from tests.support.subjects import ADA_ID, ADA_TOKEN, BOB_ID, BOB_TOKEN

HANDLE_ARGUMENTS: Final = {
    "job_id": HandleKind.JOB,
    "job_ids": HandleKind.JOB,
    "rerun_of": HandleKind.JOB,
    "after": HandleKind.JOB,
    "workspace_id": HandleKind.WORKSPACE,
    "schedule_id": HandleKind.SCHEDULE,
}
"""Arguments that name something of somebody's, in whichever tool."""
CURSOR_TOOLS: Final = {
    "list_jobs": HandleKind.JOB,
    "list_workspaces": HandleKind.WORKSPACE,
    "list_schedules": HandleKind.SCHEDULE,
}
"""Tools whose `cursor` is a handle; nothing is looked up by it."""
HARMLESS_ARGUMENTS: Final = {
    *("image", "command", "flavor", "timeout", "env", "secrets", "labels", "name"),
    *("mode", "until", "timeout_seconds", "on"),
    "since_version",  # of jobs that stand in job_ids, or it is refused; tried in test_waits
    *("model", "inputs", "task", "parameters", "provider", "state", "kind", "grep"),
    *("max_cost_usd", "max_price", "budget_usd", "media_type"),
    *("defaults", "confirm_above_usd", "overrides", "since", "confirm"),
    *("space", "api_name", "arguments"),  # of a Space: the Hub is asked whether the caller sees it
    *("script", "script_args", "dependencies", "python", "expose", "outputs"),
    *("volumes", "resource_group_id", "bill_to"),  # of the Hub, which asks what the token reaches
    *("items", "on_unknown", "only"),
    "download",  # which export of the job in job_id
    "file",  # of the job in job_id, and of no other: tried in test_output_files
    "items_from",  # of the Hub, which is read with the caller's own token
    *("cron", "timezone", "overlap", "missed"),
    *("group_by", "month", "text"),
    *("job", "inference"),  # whole requests, which name workspaces; tried below
    "hub_job_id",  # of the Hub, which is asked whether the token shows it; tried in test_adoption
    "namespace",  # of the Hub, which is asked whether the caller reaches it
    "idempotency_key",  # of the caller's own; tried below
    "webhook_url",  # of the caller's own; tried in test_webhooks
}
FORGED_ARGUMENTS: Final = (
    "subject",
    "subject_id",
    "user",
    "user_id",
    "caller",
    "token",
    "app",
    "ctx",
)


@pytest.fixture
async def tool_arguments(service_url: str) -> list[ToolArgument]:
    """Every argument of every tool, as the service lists them to whoever may use them all."""
    listed = (await post_message(service_url, "tools/list")).json()["result"]["tools"]
    return [
        ToolArgument(tool["name"], argument, schema)
        for tool in listed
        for argument, schema in tool["inputSchema"]["properties"].items()
    ]


def select_handle_arguments(
    tool_arguments: list[ToolArgument], kind: HandleKind
) -> list[ToolArgument]:
    """Choose the places where a handle of that kind goes."""
    chosen = [place for place in tool_arguments if HANDLE_ARGUMENTS.get(place.name) is kind]
    assert chosen
    return chosen


async def test_whoever_adds_an_argument_says_whether_it_names_something(
    tool_arguments: list[ToolArgument],
) -> None:
    """An argument nobody thought about would be the one that is not attacked below."""
    unknown = [
        f"{place.tool}({place.name})"
        for place in tool_arguments
        if place.accepts_text
        and place.name not in HANDLE_ARGUMENTS.keys() | HARMLESS_ARGUMENTS
        and not (place.name == "cursor" and place.tool in CURSOR_TOOLS)
    ]

    assert unknown == [], (
        "say in tests/service/mcp/tools/test_tenant_isolation.py whether these name something"
    )


@pytest.mark.parametrize("life", JOB_HISTORIES)
async def test_a_foreign_job_is_not_told_from_none_whatever_became_of_it(
    service_url: str,
    tool_arguments: list[ToolArgument],
    database: Database,
    make_job: JobFactory,
    life: str,
) -> None:
    """Whoever steals a handle learns nothing by any tool, and can stop nothing."""
    foreign = job_handle((await make_job_with_history(RunDriver(database), make_job, life)).id)
    before = await read_all_rows(database)

    # Whichever way it is asked, the tool is the same: one life of a job is tried in all of them.
    ways = list(ProtocolVariant) if life == "running" else [ProtocolVariant.MODERN]
    for place in select_handle_arguments(tool_arguments, HandleKind.JOB):
        for way in ways:
            nobodys = job_handle(ids.new_id())
            theirs = await call_tool(
                service_url, place.tool, place.with_handle(foreign), variant=way
            )
            none = await call_tool(service_url, place.tool, place.with_handle(nobodys), variant=way)
            assert theirs.without_handle(foreign) == none.without_handle(nobodys), (
                f"{place.tool}, {way}"
            )
            assert none.error_code == "NotFound", f"{place.tool}: {none.body!r}"

    assert await read_all_rows(database) == before
    for place in select_handle_arguments(tool_arguments, HandleKind.JOB):
        hers = await call_tool(
            service_url, place.tool, place.with_handle(foreign), caller_token=ADA_TOKEN
        )
        assert hers.error_code != "NotFound", "nothing was attacked"


async def test_a_foreign_workspace_is_not_told_from_none(
    service_url: str, tool_arguments: list[ToolArgument], database: Database
) -> None:
    """Its handle neither opens it, nor puts a job of somebody else's into it."""
    made = await call_for_result(service_url, "create_workspace", name="hers")
    foreign: str = made["workspace_id"]
    await call_for_result(
        service_url, "launch_job", **REQUIRED_ARGUMENTS["launch_job"], workspace_id=foreign
    )
    before = await read_all_rows(database)

    for place in select_handle_arguments(tool_arguments, HandleKind.WORKSPACE):
        for way in ProtocolVariant:
            nobodys = ids.format_handle(HandleKind.WORKSPACE, ids.new_id())
            theirs = await call_tool(
                service_url, place.tool, place.with_handle(foreign), variant=way
            )
            none = await call_tool(service_url, place.tool, place.with_handle(nobodys), variant=way)
            assert theirs.without_handle(foreign) == none.without_handle(nobodys), (
                f"{place.tool}, {way}"
            )
            assert none.error_code == "NotFound", f"{place.tool}: {none.body!r}"

    assert await read_all_rows(database) == before
    assert (await call_for_result(service_url, "list_jobs", caller_token=BOB_TOKEN))["jobs"] == []
    for place in select_handle_arguments(tool_arguments, HandleKind.WORKSPACE):
        hers = await call_tool(
            service_url, place.tool, place.with_handle(foreign), caller_token=ADA_TOKEN
        )
        assert hers.error_code is None, f"{place.tool}: nothing was attacked"


async def test_a_foreign_schedule_is_not_told_from_none(
    service_url: str, tool_arguments: list[ToolArgument], database: Database
) -> None:
    """Whoever fires, or changes, another's schedule spends their money while they sleep."""
    made = await call_for_result(
        service_url, "create_schedule", **REQUIRED_ARGUMENTS["create_schedule"]
    )
    foreign: str = made["schedule_id"]
    before = await read_all_rows(database)

    for place in select_handle_arguments(tool_arguments, HandleKind.SCHEDULE):
        for way in ProtocolVariant:
            nobodys = ids.format_handle(HandleKind.SCHEDULE, ids.new_id())
            theirs = await call_tool(
                service_url, place.tool, place.with_handle(foreign), variant=way
            )
            none = await call_tool(service_url, place.tool, place.with_handle(nobodys), variant=way)
            assert theirs.without_handle(foreign) == none.without_handle(nobodys), (
                f"{place.tool}, {way}"
            )
            assert none.error_code == "NotFound", f"{place.tool}: {none.body!r}"

    assert await read_all_rows(database) == before
    for place in select_handle_arguments(tool_arguments, HandleKind.SCHEDULE):
        hers = await call_tool(
            service_url, place.tool, place.with_handle(foreign), caller_token=ADA_TOKEN
        )
        assert hers.error_code != "NotFound", "nothing was attacked"


@pytest.mark.parametrize("argument", ["job", "inference"])
async def test_no_schedule_launches_into_a_foreign_workspace(
    service_url: str, argument: str
) -> None:
    """Its jobs would be counted there, and take what it fills in."""
    foreign: str = (await call_for_result(service_url, "create_workspace", name="hers"))[
        "workspace_id"
    ]
    nobodys = ids.format_handle(HandleKind.WORKSPACE, ids.new_id())
    work = REQUIRED_ARGUMENTS["launch_job" if argument == "job" else "launch_inference"]

    theirs, none = [
        await call_tool(
            service_url,
            "create_schedule",
            {"cron": "@daily", "job": None, argument: {**work, "workspace_id": each}},
        )
        for each in (foreign, nobodys)
    ]

    assert theirs.without_handle(foreign) == none.without_handle(nobodys)
    assert none.error_code == "NotFound"


async def test_a_foreign_cursor_is_only_a_moment_in_time(
    service_url: str, tool_arguments: list[ToolArgument]
) -> None:
    """What is listed is the caller's own, from whichever handle it is listed on."""
    for token in (BOB_TOKEN, ADA_TOKEN):
        await call_for_result(service_url, "create_workspace", caller_token=token, name="same")
        job = await call_for_result(
            service_url, "launch_job", caller_token=token, **REQUIRED_ARGUMENTS["launch_job"]
        )
        await call_for_result(service_url, "cancel_job", caller_token=token, job_id=job["job_id"])
        await call_for_result(
            service_url,
            "create_schedule",
            caller_token=token,
            **REQUIRED_ARGUMENTS["create_schedule"],
        )
    foreign = {
        HandleKind.JOB: (await call_for_result(service_url, "list_jobs"))["jobs"][0]["job_id"],
        HandleKind.WORKSPACE: (await call_for_result(service_url, "list_workspaces"))["workspaces"][
            0
        ]["workspace_id"],
        HandleKind.SCHEDULE: (await call_for_result(service_url, "list_schedules"))["schedules"][0][
            "schedule_id"
        ],
    }
    tools = [
        place.tool for place in tool_arguments if place.name == "cursor" and place.accepts_text
    ]

    assert sorted(tools) == sorted(CURSOR_TOOLS)
    for tool, kind in CURSOR_TOOLS.items():
        for way in ProtocolVariant:
            nobodys = ids.format_handle(kind, ids.new_id())
            theirs = await call_tool(service_url, tool, {"cursor": foreign[kind]}, variant=way)
            none = await call_tool(service_url, tool, {"cursor": nobodys}, variant=way)
            assert theirs == none, f"{tool}, {way}"
            assert ADA_ID not in theirs.body.decode()
            assert len(theirs.find_handles()) == 1, "nothing was listed"
            assert foreign[kind].encode() not in theirs.body


async def test_among_many_handles_the_foreign_ones_do_not_stand_out(
    service_url: str, make_job: JobFactory
) -> None:
    """One call can try fifty handles."""
    own = (
        await call_for_result(
            service_url, "launch_job", caller_token=BOB_TOKEN, **REQUIRED_ARGUMENTS["launch_job"]
        )
    )["job_id"]
    await call_for_result(service_url, "cancel_job", caller_token=BOB_TOKEN, job_id=own)
    foreign = [job_handle((await make_job()).id) for _ in range(24)]
    nobodys = [job_handle(ids.new_id()) for _ in foreign]
    mixed = [own, "job_not-one", *foreign]

    for way in ProtocolVariant:
        theirs = await call_tool(service_url, "job_status", {"job_ids": mixed}, variant=way)
        none = await call_tool(
            service_url, "job_status", {"job_ids": [own, "job_not-one", *nobodys]}, variant=way
        )
        for handle, other in zip(foreign, nobodys, strict=True):
            theirs, none = theirs.without_handle(handle), none.without_handle(other)
        assert theirs == none, way
        assert none.body.count(b"NotFound") >= len(nobodys)


async def test_filters_and_lists_show_nothing_of_anybody_elses(
    service_url: str, make_job: JobFactory
) -> None:
    """What cannot be asked for by its handle cannot be found by its traits."""
    await make_job(labels={"team": "nlp"})
    await call_for_result(service_url, "create_workspace", name="hers")

    for arguments in ({}, {"labels": {"team": "nlp"}}, {"state": "queued"}, {"kind": "hub_job"}):
        assert (
            await call_for_result(service_url, "list_jobs", caller_token=BOB_TOKEN, **arguments)
        )["jobs"] == []
    assert (await call_for_result(service_url, "list_workspaces", caller_token=BOB_TOKEN))[
        "workspaces"
    ] == []
    assert (await call_for_result(service_url, "whoami", caller_token=BOB_TOKEN))["open_jobs"] == 0
    assert (
        await call_for_result(service_url, "create_workspace", caller_token=BOB_TOKEN, name="hers")
    )["created"]


async def test_anothers_idempotency_key_is_free(service_url: str) -> None:
    """A key is a word of its owner's: it neither finds their job nor stands in the way."""
    for way in ProtocolVariant:
        for request in ({}, {"image": "another"}):
            key = f"{way} {request}"
            hers = await call_tool(
                service_url, "launch_job", {"idempotency_key": key}, caller_token=ADA_TOKEN
            )
            taken, free = [
                await launch_alone(service_url, request | {"idempotency_key": own}, way)
                for own in (key, f"{key}!")
            ]
            assert taken.without_handles() == free.without_handles(), way
            assert taken.error_code is None
            assert taken.find_handles().isdisjoint(hers.find_handles())


async def launch_alone(
    service: str, request: dict[str, Any], variant: ProtocolVariant
) -> ObservedAnswer:
    """Launch with nothing of one's own before it in the queue, now or later."""
    answer = await call_tool(service, "launch_job", request, variant=variant)
    for handle in answer.find_handles():
        await call_for_result(service, "cancel_job", caller_token=BOB_TOKEN, job_id=handle)
    return answer


async def test_the_same_request_of_somebody_else_is_no_duplicate(service_url: str) -> None:
    """That anybody asked for the same minutes ago is theirs to know."""
    await call_for_result(service_url, "launch_job", **REQUIRED_ARGUMENTS["launch_job"])

    view = await call_for_result(
        service_url, "launch_job", caller_token=BOB_TOKEN, **REQUIRED_ARGUMENTS["launch_job"]
    )

    assert view["possible_duplicate_of"] is None


async def test_no_argument_makes_a_caller_somebody_else(
    service_url: str, tool_arguments: list[ToolArgument], make_job: JobFactory, database: Database
) -> None:
    """Whose call it is stands in the token; a tool that took it as an argument would be lied to."""
    await make_job()
    before = await read_all_rows(database)
    whole: dict[str, dict[str, Any]] = {"whoami": {}}
    for place in tool_arguments:
        whole[place.tool] = {}
    for place in select_handle_arguments(tool_arguments, HandleKind.JOB):
        whole[place.tool] |= place.with_handle(job_handle(ids.new_id()))

    for tool, arguments in whole.items():
        for name in FORGED_ARGUMENTS:
            answer = await call_tool(service_url, tool, arguments | {name: ADA_ID})
            assert answer.error_code == "Invalid", f"{tool}({name}): {answer.body!r}"
            assert f"There is no argument {name}".encode() in answer.body

    assert await read_all_rows(database) == before
    assert (await call_for_result(service_url, "list_jobs", caller_token=BOB_TOKEN))["jobs"] == []


async def test_no_header_and_no_metadata_makes_a_caller_somebody_else(service_url: str) -> None:
    """Only the first token counts; nothing else that names a person is read."""
    forged: dict[str, Any] = {
        "authorization": f"Bearer {BOB_TOKEN}",
        "x_hf_authorization": f"Bearer {ADA_TOKEN}",
        "x_forwarded_user": ADA_ID,
        "x_holdfast_subject": ADA_ID,
    }
    meta = {
        "subject": ADA_ID,
        "holdfast/subject": ADA_ID,
        f"{META_PREFIX}/clientInfo": {"name": ADA_ID},
    }

    params = {"name": "whoami", "arguments": {}, "_meta": meta}
    answer = (await post_message(service_url, "tools/call", params, **forged)).json()

    assert answer["result"]["structuredContent"]["subject_id"] == BOB_ID


async def test_nothing_else_can_be_asked_for_a_handle(
    service_url: str, make_job: JobFactory
) -> None:
    """For what can be: test_surface_attacks and test_task_attacks."""
    job = await make_job()
    handle = job_handle(job.id)
    tasks = {f"tasks/{verb}": {"taskId": handle} for verb in ("get", "cancel", "result", "update")}
    tasks["tasks/list"] = {}
    listening: dict[str, dict[str, Any]] = {
        "resources/subscribe": {"uri": f"job://{handle}"},
        "subscriptions/listen": {"notifications": {"resourceSubscriptions": [f"job://{handle}"]}},
    }
    methods = [(ProtocolVariant.LEGACY, tasks | listening), (ProtocolVariant.MODERN, tasks)]
    for way, named in methods:
        for method, params in named.items():
            answer = await send_message(service_url, way, method, params, ADA_TOKEN)
            error = json.loads(answer.body).get("error", {})
            assert error, f"{method} is answered: attack it"
            assert job.title.encode() not in answer.body


async def test_the_service_speaks_to_postgres_as_the_tenant(
    service_url: str, database_url: str, make_job: JobFactory
) -> None:
    """As its login row-level security would not apply, and nobody would see that in an answer."""
    await make_job()
    admin: asyncpg.Connection = await asyncpg.connect(database_url)
    try:
        await admin.execute("REVOKE SELECT ON job FROM holdfast_tenant")
    finally:
        await admin.close()

    answer = await call_tool(service_url, "list_jobs", {}, caller_token=ADA_TOKEN)

    assert b'"isError":true' in answer.body
