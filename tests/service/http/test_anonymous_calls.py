"""Whoever has not signed in: what they may call, and what the rest asks of them."""

import json
from typing import Annotated, Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel

from schema.db.database import Database
from service.http.rate_limit import hash_address
from service.local.ports import find_free_port
from service.mcp.catalog.instructions import ANONYMOUS_NOTE
from service.mcp.tool import READ_ONLY, build_tool, tool_result
from service.runtime.context import HELP_URI
from tests.support.factories import StartService
from tests.support.http_clients import AsyncHttpClient
from tests.support.hub.emulator_process import run_hub_emulator
from tests.support.hub.fake_hub import FakeHub
from tests.support.mcp.client import post_message
from tests.support.mcp.observed_answers import MODERN_REQUEST_META
from tests.support.mcp.valid_arguments import complete_arguments
from tests.support.oauth.mcp_client_auth import (
    ConsentingBrowser,
    MemoryTokenStorage,
    make_oauth_provider,
)
from tests.support.polling import HTTP_TIMEOUT_SECONDS

PUBLIC_TOOLS = {"list_hardware"}
LAUNCH_CALL: dict[str, Any] = {
    "name": "launch_job",
    "arguments": {"image": "python:3.12", "command": ["true"]},
}
HARDWARE_CALL: dict[str, Any] = {"name": "list_hardware", "arguments": {}}


class WordView(BaseModel):
    """What a tool says."""

    word: str


async def say_word() -> Annotated[CallToolResult, WordView]:
    """Say a word."""
    return tool_result("Said.", WordView(word="private"))


async def call_as_nobody(
    url: str, method: str, params: dict[str, Any] | None = None, **headers: str
) -> httpx2.Response:
    """Send one message without any token."""
    return await post_message(url, method, params, authorization="", **headers)


async def call_modern_as_nobody(url: str, method: str, **params: Any) -> httpx2.Response:
    """The same in the revision of 2026."""
    headers = {"mcp_protocol_version": "2026-07-28", "mcp_method": method}
    if name := params.get("name") or params.get("uri"):
        headers["mcp_name"] = name
    return await call_as_nobody(url, method, {**params, "_meta": MODERN_REQUEST_META}, **headers)


async def post_body(url: str, body: str, **headers: str) -> httpx2.Response:
    """Send a body as it is, without a token."""
    sent = {"content-type": "application/json", "accept": "application/json", **headers}
    async with AsyncHttpClient(headers=sent, timeout=HTTP_TIMEOUT_SECONDS) as http:
        return await http.post(f"{url}/mcp", content=body.encode())


async def count_rows(database: Database) -> int:
    """Count what calls could have left."""
    async with database.transaction() as tx:
        [row] = await tx.fetch(
            "SELECT (SELECT count(*) FROM job) + (SELECT count(*) FROM workspace)"
            " + (SELECT count(*) FROM schedule) + (SELECT count(*) FROM subject) AS rows"
        )
    return int(row["rows"])


async def test_whoever_has_not_signed_in_sees_every_tool_and_calls_the_public_ones(
    service_url: str, fake_hub: FakeHub
) -> None:
    """What they were not shown, no model would call, and then nobody would be asked to sign in."""
    signed_in = (await post_message(service_url, "tools/list")).json()["result"]["tools"]
    fake_hub.whoami_tokens.clear()

    for call in (call_as_nobody, call_modern_as_nobody):
        listed = (await call(service_url, "tools/list")).json()["result"]["tools"]
        hardware = (
            await call_as_nobody(service_url, "tools/call", HARDWARE_CALL)
            if call is call_as_nobody
            else await call_modern_as_nobody(service_url, "tools/call", **HARDWARE_CALL)
        )
        assert listed == signed_in
        assert hardware.json()["result"]["structuredContent"]["flavors"]
    assert fake_hub.whoami_tokens == []


async def test_every_other_tool_asks_for_a_sign_in_and_does_nothing(
    service_url: str, database: Database
) -> None:
    """The challenge is what a client with OAuth starts from; the sentence is for the others."""
    tools = (await post_message(service_url, "tools/list")).json()["result"]["tools"]
    before = await count_rows(database)

    answers = {
        tool["name"]: await call_as_nobody(
            service_url,
            "tools/call",
            {
                "name": tool["name"],
                "arguments": complete_arguments(
                    tool["name"], tool["inputSchema"].get("required", [])
                ),
            },
        )
        for tool in tools
    }

    assert {name for name, answer in answers.items() if answer.status_code == 200} == PUBLIC_TOOLS
    for name in answers.keys() - PUBLIC_TOOLS:
        assert answers[name].status_code == 401, name
        challenge = answers[name].headers["www-authenticate"]
        assert "/.well-known/oauth-protected-resource/mcp" in challenge
        assert "error=" not in challenge
        assert "Authorization: Bearer" in answers[name].json()["error"]["message"]
    assert await count_rows(database) == before


@pytest.mark.parametrize(
    "name", ["LIST_HARDWARE", "list_hardware ", " list_hardware", "list_hardware\u200b", "", "nope"]
)
async def test_a_name_that_only_looks_public_asks_for_a_sign_in(
    service_url: str, name: str
) -> None:
    """A name is compared letter by letter."""
    answer = await call_as_nobody(service_url, "tools/call", {"name": name, "arguments": {}})

    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("resources/read", {"uri": "job://job_01krz4c0s0e5xv4k6w2q8ntb7m"}),
        ("resources/read", {"uri": f"{HELP_URI}/../job"}),
        ("resources/read", {"uri": [HELP_URI]}),
        ("resources/subscribe", {"uri": HELP_URI}),
        ("prompts/get", {"name": "list_hardware", "uri": HELP_URI}),
        ("completion/complete", {"name": "list_hardware"}),
        ("tasks/get", {"taskId": "list_hardware"}),
        ("tasks/cancel", {"name": "list_hardware", "taskId": "x"}),
        ("subscriptions/listen", {"notifications": {}}),
        ("TOOLS/LIST", {}),
    ],
)
async def test_no_other_method_is_open(
    service_url: str, method: str, params: dict[str, Any]
) -> None:
    """Neither by what it is about, nor by what is written beside it."""
    assert (await call_as_nobody(service_url, method, params)).status_code == 401


async def test_a_private_call_does_not_hide_behind_a_public_one(
    service_url: str, database: Database
) -> None:
    """In a batch, all or nothing; and of two names in one call, the one that is called counts."""
    before = await count_rows(database)
    calls = [
        {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
        for number, params in enumerate((HARDWARE_CALL, LAUNCH_CALL))
    ]
    arguments = json.dumps(LAUNCH_CALL["arguments"])
    twice = (
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":'
        f'{{"name":"list_hardware","name":"launch_job","arguments":{arguments}}}}}'
    )

    assert (await post_body(service_url, json.dumps(calls))).status_code == 401
    assert (await post_body(service_url, json.dumps(calls[::-1]))).status_code == 401
    assert (await post_body(service_url, twice)).status_code == 401
    assert (await post_body(service_url, json.dumps(calls[:1]))).status_code == 200
    assert await count_rows(database) == before


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer hf_stale"},
        {"authorization": "Bearer"},
        {"authorization": "hf_ada"},
        {"authorization": "Basic aGY6aGY="},
        {"authorization": "Bearer two words"},
        {"x-hf-authorization": "hf_ada"},
        {"authorization": "", "x-hf-authorization": ""},
    ],
)
async def test_a_wrong_token_is_never_taken_for_none(
    service_url: str, headers: dict[str, str]
) -> None:
    """A person whose token is mistyped is told so, and does not wonder where their jobs are."""
    message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})

    answer = await post_body(service_url, message, **headers)

    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


async def test_an_operator_can_refuse_whoever_has_not_signed_in(
    start_service: StartService,
) -> None:
    """Then the first message of a client already leads to the sign-in."""
    with start_service(anonymous="refuse") as url:
        for method, params in (("tools/list", {}), ("tools/call", HARDWARE_CALL)):
            assert (await call_as_nobody(url, method, params)).status_code == 401


@pytest.mark.parametrize("query", ["login", "login=", "x=1&login=yes", "LOGIN"])
async def test_a_client_can_be_asked_to_sign_in_when_it_connects(
    service_url: str, query: str
) -> None:
    """Some clients can sign in only then; the URL of Hugging Face's own server says it alike."""
    message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    headers = {"content-type": "application/json"}
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        nobody = await http.post(f"{service_url}/mcp?{query}", content=message, headers=headers)
        ada = await http.post(
            f"{service_url}/mcp?{query}",
            content=message,
            headers={**headers, "authorization": "Bearer hf_ada"},
        )

    assert (nobody.status_code, ada.status_code) == (401, 200)
    assert "resource_metadata=" in nobody.headers["www-authenticate"]


async def test_help_says_how_to_sign_in(service_url: str) -> None:
    """It is read before anybody is known, and so is where it stands."""
    listed = (await call_as_nobody(service_url, "resources/list")).json()["result"]["resources"]
    for answer in (
        await call_as_nobody(service_url, "resources/read", {"uri": HELP_URI}),
        await call_modern_as_nobody(service_url, "resources/read", uri=HELP_URI),
    ):
        [page] = answer.json()["result"]["contents"]
        for text in ("Authorization: Bearer", "X-HF-Authorization", "?login", "list_hardware"):
            assert text in page["text"]
        for scope in ("jobs", "inference-api", "contribute-repos", "read-repos"):
            assert f"  {scope}: to " in page["text"]

    assert [resource["uri"] for resource in listed] == [HELP_URI]


async def test_a_model_is_told_that_nobody_has_signed_in(service_url: str) -> None:
    """It then knows why a call may open a browser, and what to say if none does."""
    hello = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "tests", "version": "0"},
    }
    nobodys = [
        await call_as_nobody(service_url, "initialize", hello),
        await call_modern_as_nobody(service_url, "server/discover"),
    ]
    adas = await post_message(service_url, "initialize", hello)

    for answer in nobodys:
        assert answer.json()["result"]["instructions"].endswith(ANONYMOUS_NOTE)
    assert ANONYMOUS_NOTE not in adas.json()["result"]["instructions"]


async def test_calls_are_counted_by_address_and_not_against_anybody(
    start_service: StartService,
) -> None:
    """Somebody without a token uses up what is left to their address, and nothing of a person's."""
    with start_service(calls_per_minute=2) as url:
        nobodys = [await call_as_nobody(url, "tools/list") for _ in range(3)]
        elsewhere = await call_as_nobody(url, "tools/list", x_forwarded_for="192.0.2.7")
        adas = [await post_message(url, "tools/list") for _ in range(2)]

    assert [answer.status_code for answer in nobodys] == [200, 200, 429]
    assert int(nobodys[2].headers["retry-after"]) >= 1
    assert "Sign in" in nobodys[2].json()["error"]["message"]
    assert elsewhere.status_code == 200
    assert [answer.status_code for answer in adas] == [200, 200]


async def test_each_message_of_a_batch_counts(start_service: StartService) -> None:
    """Else one request would be worth any number of calls."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": HARDWARE_CALL}
    with start_service(calls_per_minute=3) as url:
        answer = await post_body(url, json.dumps([message] * 4))

    assert answer.status_code == 429


def test_an_address_is_counted_as_what_one_machine_can_have() -> None:
    """A /64 of IPv6 is one machine's; and nothing of an address is stored as it is."""
    assert hash_address("2001:db8::1") == hash_address("2001:db8:0:0:ffff::2")
    assert hash_address("2001:db8::1") != hash_address("2001:db8:0:1::1")
    assert hash_address("192.0.2.1") != hash_address("192.0.2.2")
    assert hash_address("::ffff:192.0.2.1") == hash_address("192.0.2.1")
    assert hash_address("") != hash_address("192.0.2.1")
    assert "192.0.2.1" not in hash_address("192.0.2.1")


async def test_a_tool_guards_itself_against_nobody() -> None:
    """A call that got around the edge is refused by the tool, even if that needs no caller."""
    tool = build_tool(say_word, "Say", READ_ONLY)
    async with Client(MCPServer("tests", tools=[tool])) as client:
        answer = await client.call_tool("say_word", {})

    assert answer.is_error
    assert isinstance(answer.content[0], TextContent)
    assert "Sign in first" in answer.content[0].text


async def test_the_official_client_signs_in_at_the_first_call_that_needs_somebody(
    start_service: StartService, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It connects and lists without a browser, and the call that opened one is then carried out."""
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    memory = MemoryTokenStorage()
    with run_hub_emulator(tmp_path_factory.mktemp("hub")) as hub_emulator:
        async with AsyncHttpClient(base_url=hub_emulator.url, timeout=HTTP_TIMEOUT_SECONDS) as hub:
            browser = ConsentingBrowser(hub)
            provider = make_oauth_provider(f"{url}/mcp", browser, memory)
            with start_service(hub_url=hub_emulator.url, public_url=url, at=port):
                async with (
                    AsyncHttpClient(auth=provider, timeout=HTTP_TIMEOUT_SECONDS) as http,
                    Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
                ):
                    tools = (await client.list_tools()).tools
                    hardware = await client.call_tool("list_hardware", {})
                    visits_before = len(browser.visited_urls)
                    launched = await client.call_tool("launch_job", LAUNCH_CALL["arguments"])
                    who = await client.call_tool("whoami", {})

    assert "launch_job" in {tool.name for tool in tools}
    assert not hardware.is_error
    assert (visits_before, len(browser.visited_urls)) == (0, 1)
    assert browser.visited_urls[0].params["resource"] == f"{url}/mcp"
    assert launched.structured_content is not None
    assert launched.structured_content["job_id"].startswith("job_")
    assert who.structured_content is not None
    assert who.structured_content["name"] == "alice"


async def test_the_official_client_without_a_sign_in_is_told_what_it_lacks(
    service_url: str,
) -> None:
    """A program with no browser shows the sentence, and goes on."""
    async with (
        AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http,
        Client(streamable_http_client(f"{service_url}/mcp", http_client=http)) as client,
    ):
        with pytest.raises(Exception, match="Nobody is signed in"):
            await client.call_tool("whoami", {})
        hardware = await client.call_tool("list_hardware", {})

    assert not hardware.is_error
