"""The bridge and the real service, through the real client of the SDK."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from mcp import Client
from mcp.shared.subscriptions import ResourceUpdated
from mcp_types import ElicitResult

from schema.db.database import Database
from schema.jobs import lifecycle
from tests.support.factories import JobFactory, StartService
from tests.support.jobs.handles import job_uri
from tests.support.mcp.client import open_mcp_client
from tests.support.mcp.users import ElicitedUser
from tests.support.polling import wait_until
from tests.support.stdio import StdioProcess, connect_stdio, run_stdio
from tests.support.subjects import ADA_ID, ADA_TOKEN, BOB_TOKEN

TOKEN: Final = {"HOLDFAST_TOKEN": ADA_TOKEN}
LAUNCH: Final = {"image": "python:3.12", "command": ["true"]}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "stdio.log"


async def list_tools(client: Client) -> set[str]:
    return {tool.name for tool in (await client.list_tools()).tools}


def read_log(log: Path) -> str:
    """Return what the bridge has written for the person."""
    return log.read_text()


def write(file: Path, text: str | None) -> None:
    """Write a file, or delete it."""
    if text is None:
        file.unlink()
    else:
        file.write_text(text)


def call_tool(bridge: StdioProcess, tool: str, **arguments: Any) -> Any:
    return bridge.ask("tools/call", {"name": tool, "arguments": arguments})


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_both_revisions_of_the_protocol_pass(
    service_url: str, log: Path, mode: Literal["legacy", "auto"]
) -> None:
    """A handshake, or none; tools, resources and errors; and nothing but protocol in between."""
    async with connect_stdio([service_url], log=log, mode=mode, environment=TOKEN) as client:
        tools = await list_tools(client)
        account = await client.call_tool("whoami", {})
        launched = await client.call_tool("launch_job", dict(LAUNCH))
        refused = await client.call_tool("job_status", {"job_ids": ["job_none"]})
        help_page = await client.read_resource("holdfast://help")
        version = client.protocol_version
    async with open_mcp_client(service_url) as direct:
        assert tools == await list_tools(direct)

    assert account.structured_content is not None
    assert account.structured_content["name"] == "ada"
    assert launched.structured_content is not None
    assert launched.structured_content["state"] == "queued"
    assert refused.content
    assert help_page.contents
    assert version == ("2026-07-28" if mode == "auto" else "2025-11-25")
    assert read_log(log) == ""


async def test_a_person_is_asked_and_a_change_is_heard_of(
    service_url: str, log: Path, make_job: JobFactory, database: Database
) -> None:
    """Questions, and notifications on a stream that stays open."""
    person = ElicitedUser(ElicitResult(action="decline"))
    job = await make_job()
    async with connect_stdio(
        [service_url], log=log, environment=TOKEN, elicitation_callback=person
    ) as client:
        workspace = (await client.call_tool("create_workspace", {"name": "w"})).structured_content
        assert workspace is not None
        place = {"workspace_id": workspace["workspace_id"]}
        await client.call_tool("update_workspace", {**place, "confirm_above_usd": 0.25})
        await client.call_tool(
            "launch_job", {**LAUNCH, **place, "flavor": "a10g-small", "timeout": "30m"}
        )
        async with client.listen(resource_subscriptions=[job_uri(job)]) as subscription:
            async with database.transaction() as tx:
                await lifecycle.cancel_job(tx, job.id, subject_id=ADA_ID)
            heard = [event async for event in subscription]

    assert len(person.questions) == 1
    assert heard == [ResourceUpdated(job_uri(job))]


async def test_tools_are_chosen_by_options(service_url: str, log: Path) -> None:
    async with connect_stdio(
        ["--url", service_url, "--toolsets", "jobs", "--readonly"], log=log, environment=TOKEN
    ) as client:
        names = await list_tools(client)

    assert "job_status" in names
    assert names.isdisjoint({"launch_job", "whoami"})


async def test_whoever_has_no_token_is_told_how_to_get_one(service_url: str, log: Path) -> None:
    """They may look around, as over HTTP."""
    with run_stdio(service_url, log=log) as nobody:
        tools = nobody.ask("tools/list")["result"]["tools"]
        error = call_tool(nobody, "whoami")["error"]

    assert "launch_job" in {tool["name"] for tool in tools}
    for words in ("https://huggingface.co/settings/tokens", "HOLDFAST_TOKEN", "--token-file"):
        assert words in error["message"]


async def test_a_file_with_the_token_is_read_at_each_call(
    service_url: str, tmp_path: Path, log: Path
) -> None:
    """A token that expires is replaced without a restart of the client."""
    token = tmp_path / "token"
    write(token, "hf_expired\n")
    with run_stdio(
        service_url, "--token-file", str(token), log=log, environment={"HF_TOKEN": BOB_TOKEN}
    ) as bridge:
        refused = call_tool(bridge, "whoami")
        write(token, ADA_TOKEN)
        accepted = call_tool(bridge, "whoami")
        write(token, None)
        missing = call_tool(bridge, "whoami")

    assert f"A new token goes into {token}" in refused["error"]["message"]
    assert accepted["result"]["structuredContent"]["name"] == "ada"
    assert "cannot be read" in missing["error"]["message"]
    assert "hf_expired" not in read_log(log)


@pytest.mark.parametrize("content", [None, "two words", "pipe", "folder"])
def test_a_file_without_a_token_is_refused_at_the_start(
    tmp_path: Path, log: Path, content: str | None
) -> None:
    """A pipe would never end, and the sentence repeats nothing of what is in a file."""
    token = tmp_path / "token"
    if content == "pipe":
        os.mkfifo(token)
    elif content == "folder":
        token.mkdir()
    elif content is not None:
        token.write_text(content)
    with run_stdio("http://127.0.0.1:9", "--token-file", str(token), log=log) as bridge:
        assert bridge.process.wait(60) == 1

    assert str(token) in log.read_text()
    assert "two words" not in log.read_text()


async def test_the_hub_token_goes_along_where_it_is_asked_for(service_url: str, log: Path) -> None:
    """Behind a sign-in of one's own, or a proxy that takes Authorization for itself."""
    with run_stdio(
        service_url, "--send-hf-token", log=log, environment={"HF_TOKEN": ADA_TOKEN}
    ) as bridge:
        answer = call_tool(bridge, "whoami")

    assert answer["result"]["structuredContent"]["name"] == "ada"


async def test_a_service_that_restarts_is_called_again(
    start_service: StartService, log: Path
) -> None:
    """While it is away each call says so; the bridge lives on."""
    with ExitStack() as lives:
        with start_service() as url:
            bridge = lives.enter_context(run_stdio(url, log=log, environment=TOKEN))
            before = call_tool(bridge, "whoami")
        away = call_tool(bridge, "whoami")
        with start_service(at=int(url.rpartition(":")[2])):
            back = call_tool(bridge, "whoami")

    assert "result" in before
    assert "so nothing was done" in away["error"]["message"]
    assert "result" in back


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Name the service to call"),
        (["http://a.example", "--local"], "Name the service to call"),
        (["http://a.example", "--url", "http://b.example"], "named twice"),
        (["http://a.example", "--hub", "http://b.example"], "--hub is for --local"),
        (["http://a.example", "--allow-folder", "/proc"], "secrets of this machine"),
        (["http://a.example", "--token", "hf_x"], "Put it into the variable HOLDFAST_TOKEN"),
        (["ftp://a.example"], "must begin with https://"),
    ],
)
def test_wrong_options_are_refused_with_a_sentence(
    log: Path, arguments: list[str], words: str
) -> None:
    """On standard error: the client waits for protocol on the other stream."""
    with run_stdio(*arguments, log=log) as bridge:
        code = bridge.process.wait(60)

    assert code != 0
    assert words in " ".join(log.read_text().split())
    assert "hf_x" not in log.read_text()
    assert bridge.lines == []


def test_a_token_in_the_open_is_warned_of(log: Path) -> None:
    with run_stdio("http://holdfast.invalid", log=log, environment=TOKEN) as bridge:
        wait_until(lambda: "in the open" in log.read_text())

    assert ADA_TOKEN not in log.read_text()
    assert bridge.lines == []
