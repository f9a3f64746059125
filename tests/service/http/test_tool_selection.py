"""Tools that a connection has chosen, by its URL or its headers: the rest is not there."""

from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from schema.db.database import Database
from service.local.ports import find_free_port
from service.runtime.context import HELP_URI
from service.runtime.toolsets import TOOLS_BY_TOOLSET, Toolset
from tests.service.auth.test_scopes import add_oauth_token
from tests.support.factories import JobFactory, StartService
from tests.support.http_clients import AsyncHttpClient
from tests.support.hub.emulator_process import run_hub_emulator
from tests.support.hub.fake_hub import FakeHub
from tests.support.jobs.handles import job_handle
from tests.support.mcp.client import call_for_result, post_message
from tests.support.mcp.notification_stream import TASK_CAPABLE_META
from tests.support.mcp.observed_answers import MODERN_REQUEST_META
from tests.support.mcp.valid_arguments import complete_arguments
from tests.support.oauth.mcp_client_auth import (
    ConsentingBrowser,
    MemoryTokenStorage,
    make_oauth_provider,
)
from tests.support.polling import HTTP_TIMEOUT_SECONDS
from tests.support.subjects import ADA_TOKEN

HELLO: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "tests", "version": "0"},
}
JOB_ARGUMENTS: dict[str, Any] = {"image": "python:3.12", "command": ["true"]}


async def send(
    url: str,
    path: str,
    method: str,
    params: dict[str, Any] | None = None,
    *,
    headers: list[tuple[str, str]] | None = None,
    token: str | None = ADA_TOKEN,
    modern: bool = False,
) -> httpx2.Response:
    """Send one message to a path below the service."""
    params = params or {}
    sent = [("accept", "application/json, text/event-stream"), *(headers or [])]
    if token is not None:
        sent.append(("authorization", f"Bearer {token}"))
    if modern:
        params = {**params, "_meta": MODERN_REQUEST_META | TASK_CAPABLE_META}
        sent += [("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)]
        if name := params.get("name") or params.get("uri") or params.get("taskId"):
            sent.append(("mcp-name", name))
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        return await http.post(f"{url}{path}", json=message, headers=sent)


async def list_names(url: str, path: str, **options: Any) -> set[str]:
    """Return the names of the tools that a connection is shown."""
    answer = await send(url, path, "tools/list", **options)
    assert answer.status_code == 200, answer.text
    return {tool["name"] for tool in answer.json()["result"]["tools"]}


async def call(url: str, path: str, tool: str, **options: Any) -> httpx2.Response:
    """Call a tool."""
    arguments = options.pop("arguments", {})
    params = {"name": tool, "arguments": arguments}
    return await send(url, path, "tools/call", params, **options)


async def count_jobs(database: Database) -> int:
    async with database.transaction() as tx:
        [row] = await tx.fetch(
            "SELECT (SELECT count(*) FROM job) + (SELECT count(*) FROM workspace)"
            " + (SELECT count(*) FROM schedule) AS rows"
        )
    return int(row["rows"])


async def test_every_tool_is_in_a_toolset_and_every_name_is_of_a_tool(service_url: str) -> None:
    """Else a tool could not be chosen, or a toolset would promise one that is not there."""
    everything = await list_names(service_url, "/mcp")

    assert frozenset().union(*TOOLS_BY_TOOLSET.values()) == everything


@pytest.mark.parametrize("toolset", Toolset)
async def test_a_connection_is_shown_the_tools_that_it_chose(
    service_url: str, toolset: Toolset
) -> None:
    """In the URL or in the header, and in both eras of the protocol."""
    expected = TOOLS_BY_TOOLSET[toolset]
    header = [("X-MCP-Toolsets", toolset)]

    for modern in (False, True):
        by_url = await list_names(service_url, f"/mcp?toolsets={toolset}", modern=modern)
        by_header = await list_names(service_url, "/mcp", headers=header, modern=modern)
        assert by_url == by_header == expected
    assert len(await list_names(service_url, "/mcp")) > len(expected)


async def test_every_argument_of_a_chosen_tool_is_described_where_it_would_be(
    service_url: str,
) -> None:
    """The list says a description once, at the first tool; if that is hidden, at the next."""
    answer = await send(service_url, "/mcp?toolsets=inference", "tools/list")

    tools = {tool["name"]: tool for tool in answer.json()["result"]["tools"]}
    whole = await send(service_url, "/mcp", "tools/list")
    [first] = [tool for tool in whole.json()["result"]["tools"] if tool["name"] == "launch_job"]
    key = tools["launch_inference"]["inputSchema"]["properties"]["idempotency_key"]
    assert (
        key["description"] == (first["inputSchema"]["properties"]["idempotency_key"]["description"])
    )


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("/mcp/readonly", ""),
        ("/mcp/readonly/", ""),
        ("/mcp/readonly?readonly=false", ""),
        ("/mcp?readonly", ""),
        ("/mcp?ReadOnly=1", ""),
        ("/mcp", "true"),
        ("/mcp", "YES"),
        ("/mcp/readonly", "false"),
        ("/mcp?readonly=no", "x"),
    ],
)
async def test_a_connection_that_only_reads_is_shown_no_writing_tool(
    service_url: str, path: str, header: str
) -> None:
    """Whatever says so is believed, and nothing takes it back."""
    everything = (await send(service_url, "/mcp", "tools/list")).json()["result"]["tools"]
    reading = {tool["name"] for tool in everything if tool["annotations"]["readOnlyHint"]}
    headers = [("x-mcp-readonly", header)] if header else []

    for modern in (False, True):
        assert await list_names(service_url, path, headers=headers, modern=modern) == reading


@pytest.mark.parametrize("word", ["false", "F", "no", "n", "0", "OFF", ""])
async def test_a_no_is_a_no(service_url: str, word: str) -> None:
    """The words are those of the GitHub server."""
    names = await list_names(service_url, "/mcp", headers=[("x-mcp-readonly", word)])

    assert "launch_job" in names


async def test_what_is_hidden_is_answered_as_what_does_not_exist(
    service_url: str, fake_hub: FakeHub, database: Database
) -> None:
    """By name, by any spelling, in each era, and also to a sign-in that lacks its scope."""
    before = await count_jobs(database)
    stepping = add_oauth_token(fake_hub, "openid", "profile")
    places: list[tuple[str, list[tuple[str, str]]]] = [
        ("/mcp?toolsets=account,workspaces", []),
        ("/mcp", [("x-mcp-toolsets", "account")]),
        ("/mcp/readonly", []),
    ]

    for path, headers in places:
        for token in (ADA_TOKEN, stepping):
            for modern in (False, True):
                hidden, unknown, shouted = [
                    await call(
                        service_url,
                        path,
                        name,
                        arguments=JOB_ARGUMENTS,
                        headers=headers,
                        token=token,
                        modern=modern,
                    )
                    for name in ("launch_job", "launch_jox", "Launch_Job")
                ]
                assert hidden.json()["error"]["message"] == "Unknown tool: launch_job"
                for other, name in ((unknown, "launch_jox"), (shouted, "Launch_Job")):
                    assert other.status_code == hidden.status_code
                    assert other.text.replace(name, "launch_job") == hidden.text
    assert await count_jobs(database) == before


async def test_a_batch_reaches_nothing_that_is_hidden(service_url: str, database: Database) -> None:
    """Each message is a call of its own, and each is looked at."""
    before = await count_jobs(database)
    calls: dict[str, Any] = {"whoami": {}, "launch_job": JOB_ARGUMENTS}
    calls["create_workspace"] = {"name": "w"}
    messages = [
        {
            "jsonrpc": "2.0",
            "id": number,
            "method": "tools/call",
            "params": {"name": name, "arguments": arguments},
        }
        for number, (name, arguments) in enumerate(calls.items())
    ]
    headers = {"authorization": f"Bearer {ADA_TOKEN}"}
    async with AsyncHttpClient(headers=headers, timeout=HTTP_TIMEOUT_SECONDS) as http:
        for path in ("/mcp?toolsets=account", "/mcp/readonly"):
            answers = (await http.post(f"{service_url}{path}", json=messages)).json()
            assert "result" in answers[0]
            assert answers[1]["error"]["message"] == "Unknown tool: launch_job"
            assert answers[2]["error"]["message"] == "Unknown tool: create_workspace"
    assert await count_jobs(database) == before


async def test_a_connection_that_only_reads_changes_nothing(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """No writing tool answers, and no method that does the work of one."""
    job = await make_job()
    before = await count_jobs(database)
    tools = (await send(service_url, "/mcp", "tools/list")).json()["result"]["tools"]

    for tool in tools:
        if tool["annotations"]["readOnlyHint"]:
            continue
        arguments = complete_arguments(tool["name"], tool["inputSchema"].get("required", []))
        answer = await call(service_url, "/mcp/readonly", tool["name"], arguments=arguments)
        assert answer.json()["error"]["message"] == f"Unknown tool: {tool['name']}"
    cancel = await send(
        service_url,
        "/mcp/readonly",
        "tasks/cancel",
        {"taskId": job_handle(job.id)},
        modern=True,
    )

    assert cancel.json()["error"]["code"] == -32601
    assert await count_jobs(database) == before
    [view] = (await call_for_result(service_url, "list_jobs"))["jobs"]
    assert (view["state"], view["version"]) == ("queued", job.version)


async def test_url_and_header_each_take_away(service_url: str) -> None:
    """What one leaves out, the other does not bring back: either may be a proxy's."""
    both = "/mcp?toolsets=workspaces,account"
    account = TOOLS_BY_TOOLSET[Toolset.ACCOUNT]

    narrowed = await list_names(service_url, both, headers=[("x-mcp-toolsets", "account,jobs")])
    disjoint = await send(
        service_url, both, "tools/list", headers=[("x-mcp-toolsets", "jobs,spaces")]
    )
    hidden = await call(
        service_url,
        both,
        "launch_job",
        arguments=JOB_ARGUMENTS,
        headers=[("x-mcp-toolsets", "jobs,account")],
    )

    assert narrowed == account
    assert disjoint.status_code == 400
    assert "nothing is left" in disjoint.json()["error"]["message"]
    assert hidden.json()["error"]["message"] == "Unknown tool: launch_job"


async def test_blanks_around_names_do_not_count(service_url: str) -> None:
    """People write a list as they like; the names are compared letter by letter."""
    expected = TOOLS_BY_TOOLSET[Toolset.ACCOUNT] | TOOLS_BY_TOOLSET[Toolset.WORKSPACES]

    for path in ("/mcp?toolsets=account,%20workspaces", "/mcp?toolsets=account%2C+workspaces+"):
        assert await list_names(service_url, path) == expected
    headers = [("x-mcp-toolsets", "account ,\tworkspaces, account")]
    assert await list_names(service_url, "/mcp", headers=headers) == expected


@pytest.mark.parametrize(
    "names",
    [
        *("job", "JOBS", "Jobs", "all", "*", "", ",", "account,", ",account", "account;workspaces"),
        *("account workspaces", "account\x0bjobs", "account\u2028", "w%6frkspaces,acc%6funt%00"),
        *("job\u017f", "\uff4a\uff4f\uff42\uff53", "jobs\u200b", "\u0458obs", "account,\u00a0jobs"),
        "account\u00ff",
    ],
)
async def test_an_unknown_name_is_refused_with_the_names_that_there_are(
    service_url: str, names: str
) -> None:
    """Nothing is guessed: a name that was meant otherwise would open more than was chosen."""
    url = httpx2.URL(f"{service_url}/mcp").copy_set_param("toolsets", names)
    answers = [await send(service_url, url.raw_path.decode(), "tools/list")]
    if names.isprintable() and names.isascii():
        headers = [("x-mcp-toolsets", names)]
        answers.append(await send(service_url, "/mcp", "tools/list", headers=headers))

    for answer in answers:
        assert answer.status_code == 400, answer.text
        message = answer.json()["error"]["message"]
        assert ", ".join(Toolset) in message
        assert "/mcp?toolsets=jobs,account" in message


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/mcp", ["account", "jobs"]),
        ("/mcp", ["account", "account"]),
        ("/mcp", ["account", ""]),
        ("/mcp?toolsets=account&toolsets=jobs", []),
        ("/mcp?toolsets=account&TOOLSETS=jobs", []),
        ("/mcp?toolsets=account&%74oolsets=jobs", []),
    ],
)
async def test_a_choice_that_is_made_twice_in_one_place_is_refused(
    service_url: str, path: str, headers: list[str]
) -> None:
    """One of them may be a proxy's, which takes away; nobody can tell which one that is."""
    sent = [("x-mcp-toolsets", value) for value in headers]

    answer = await send(service_url, path, "tools/list", headers=sent)

    assert answer.status_code == 400
    assert "twice" in answer.json()["error"]["message"]


async def test_a_choice_counts_for_one_request(service_url: str) -> None:
    """Nothing of it stays in the process for whoever comes next."""
    assert "launch_job" not in await list_names(service_url, "/mcp?toolsets=account")
    assert "launch_job" in await list_names(service_url, "/mcp")


async def test_without_a_sign_in_a_choice_counts_as_well(service_url: str) -> None:
    """A public tool that is hidden asks for a sign-in, as an unknown one does."""
    shown, hidden, unknown = [
        await call(service_url, path, tool, token=None)
        for path, tool in (
            ("/mcp?toolsets=jobs", "list_hardware"),
            ("/mcp?toolsets=account", "list_hardware"),
            ("/mcp?toolsets=account", "list_hardwarf"),
        )
    ]

    assert (shown.status_code, hidden.status_code) == (200, 401)
    assert hidden.text == unknown.text
    assert await list_names(service_url, "/mcp/readonly", token=None) == await list_names(
        service_url, "/mcp/readonly"
    )


async def test_the_instructions_follow_the_choice(service_url: str) -> None:
    """A model is told of no tool that it does not have, and which ones it has."""
    for modern in (False, True):
        method, params = ("server/discover", {}) if modern else ("initialize", HELLO)
        answer = await send(
            service_url, "/mcp?toolsets=inference,account", method, params, modern=modern
        )
        text = answer.json()["result"]["instructions"]
        reading = await send(service_url, "/mcp/readonly", method, params, modern=modern)
        whole = await send(service_url, "/mcp", method, params, modern=modern)

        for absent in ("launch_job", "launch_space_call", "create_workspace"):
            assert absent not in text
        for present in ("launch_inference", "wait_for_jobs", "whoami"):
            assert present in text
        assert "Money" not in reading.json()["result"]["instructions"]
        assert "chose these tools" not in whole.json()["result"]["instructions"]


async def test_refusals_follow_the_choice(service_url: str) -> None:
    """What to call next is a tool that is there."""
    for path, is_there in (("/mcp", True), ("/mcp?toolsets=jobs", False)):
        answer = await call(
            service_url, path, "launch_job", arguments=JOB_ARGUMENTS, token="hf_reader"
        )
        error = answer.json()["result"]["_meta"]["holdfast/error"]
        assert error["code"] == "InsufficientScope"
        assert ("next_call" in error) is is_there
        assert ("has not chosen it" in error["remedy"]) is not is_there


async def test_prompts_and_resources_follow_the_choice(
    service_url: str, make_job: JobFactory
) -> None:
    """What does the work of a hidden tool is hidden with it, in the words for what is unknown."""
    handle = job_handle((await make_job()).id)
    path = "/mcp?toolsets=workspaces"

    for modern in (False, True):
        prompts = await send(service_url, path, "prompts/list", modern=modern)
        resources = await send(service_url, path, "resources/list", modern=modern)
        templates = await send(service_url, path, "resources/templates/list", modern=modern)
        reads = [
            await send(service_url, path, "resources/read", {"uri": uri}, modern=modern)
            for uri in (f"job://{handle}", f"job://{handle}/logs", f"jxb://{handle}", HELP_URI)
        ]
        prompt = {"name": "diagnose_job", "arguments": {"job_id": handle}}
        diagnosis = await send(service_url, path, "prompts/get", prompt, modern=modern)

        assert prompts.json()["result"]["prompts"] == []
        assert [each["uri"] for each in resources.json()["result"]["resources"]] == [HELP_URI]
        assert [
            each["uriTemplate"] for each in templates.json()["result"]["resourceTemplates"]
        ] == ["workspace://{id}"]
        assert reads[0].text == reads[2].text.replace("jxb://", "job://")
        assert reads[1].json()["error"]["code"] == reads[2].json()["error"]["code"]
        assert "contents" in reads[3].json()["result"]
        assert diagnosis.json()["error"]["message"] == "Unknown prompt: diagnose_job"
    reading = await send(service_url, "/mcp/readonly", "prompts/list")
    names = [each["name"] for each in reading.json()["result"]["prompts"]]
    assert names == ["diagnose_job", "compare_runs"]


async def test_nothing_is_launched_in_another_way_than_by_its_tool(
    service_url: str, database: Database, make_job: JobFactory
) -> None:
    """A schedule and a retry launch too; whoever left a launch out did not mean to have it so."""
    schedule = await call_for_result(
        service_url, "create_schedule", cron="@yearly", job=JOB_ARGUMENTS
    )
    job = await make_job()
    before = await count_jobs(database)
    path = "/mcp?toolsets=inference,schedules"
    schedule_id, job_id = schedule["schedule_id"], job_handle(job.id)

    refused = [
        await call(service_url, path, tool, arguments=arguments)
        for tool, arguments in (
            ("create_schedule", {"cron": "@daily", "job": JOB_ARGUMENTS}),
            ("create_schedule", {"cron": "@daily", "job": JOB_ARGUMENTS, "dry_run": True}),
            ("retry_job", {"job_id": job_id}),
            ("update_schedule", {"schedule_id": schedule_id, "run_now": True}),
            ("update_schedule", {"schedule_id": schedule_id, "paused": False}),
        )
    ]
    allowed = [
        await call(service_url, path, tool, arguments=arguments)
        for tool, arguments in (
            ("update_schedule", {"schedule_id": schedule_id, "paused": True}),
            ("cancel_job", {"job_id": job_id}),
            ("delete_schedule", {"schedule_id": schedule_id}),
            (
                "create_schedule",
                {"cron": "@daily", "dry_run": True, "inference": {"model": "m/m", "inputs": "x"}},
            ),
        )
    ]

    for answer in refused:
        error = answer.json()["result"]["_meta"]["holdfast/error"]
        assert error["code"] == "ToolNotChosen"
        assert "launch_job" in error["message"]
        assert "toolset jobs" in error["message"]
    for answer in allowed:
        assert not answer.json()["result"].get("isError"), answer.text
    assert await count_jobs(database) <= before


async def test_the_official_client_signs_in_where_it_has_chosen(
    start_service: StartService, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The resource that it asks a token for is the endpoint, whatever it has chosen there."""
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    endpoint = f"{url}/mcp/readonly?toolsets=account,jobs&login"
    with run_hub_emulator(tmp_path_factory.mktemp("hub")) as hub_emulator:
        async with AsyncHttpClient(base_url=hub_emulator.url, timeout=HTTP_TIMEOUT_SECONDS) as hub:
            browser = ConsentingBrowser(hub)
            provider = make_oauth_provider(endpoint, browser, MemoryTokenStorage())
            with start_service(hub_url=hub_emulator.url, public_url=url, at=port):
                async with (
                    AsyncHttpClient(auth=provider, timeout=HTTP_TIMEOUT_SECONDS) as http,
                    Client(streamable_http_client(endpoint, http_client=http)) as client,
                ):
                    names = {tool.name for tool in (await client.list_tools()).tools}
                    who = await client.call_tool("whoami", {})

    assert names == {
        *("job_status", "list_jobs", "job_logs", "job_result", "wait_for_jobs"),
        *("list_hardware", "whoami", "spending"),
    }
    assert not who.is_error
    assert browser.visited_urls[0].params["resource"] == f"{url}/mcp"


async def test_a_narrowed_list_is_cached_for_nobody_else(service_url: str) -> None:
    """The hint of the newest revision says whose the list is; it was so before."""
    answer = await send(service_url, "/mcp?toolsets=account", "tools/list", modern=True)

    assert answer.json()["result"]["cacheScope"] == "private"


async def test_help_names_the_toolsets(service_url: str) -> None:
    """Whoever sets a connection up finds them without reading the source."""
    answer = await post_message(service_url, "resources/read", {"uri": HELP_URI})

    [page] = answer.json()["result"]["contents"]
    assert ", ".join(Toolset) in page["text"]
    assert "/mcp/readonly" in page["text"]
