"""Each revision of the protocol as a raw client speaks it: JSON over HTTP, and no SDK.

The official clients are tested in `tests/interop`, and the official suite, which has scenarios for
2025-11-25 and 2026-07-28, in `tests/conformance`. Here stands what each revision says on the wire.
"""

from http import HTTPStatus
from typing import Any, Final

import httpx2
import pytest

from tests.support.mcp.client import post_message
from tests.support.mcp.observed_answers import META_PREFIX, MODERN_REQUEST_META
from tests.support.mcp.tool_count import TOOL_COUNT

MODERN: Final = "2026-07-28"
LEGACY: Final = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"]
VERSION_HEADER_SINCE: Final = "2025-06-18"
"""The revision that made clients name the version in a header of each request."""
CLIENT: Final = {"name": "raw", "version": "1"}
WRONG_CALL: Final[dict[str, Any]] = {"name": "list_jobs", "arguments": {"limit": 0}}
RIGHT_CALL: Final[dict[str, Any]] = {"name": "list_jobs", "arguments": {}}
UNKNOWN_CALL: Final[dict[str, Any]] = {"name": "no_such_tool", "arguments": {}}


async def send(
    url: str, version: str, method: str, params: dict[str, Any] | None = None
) -> httpx2.Response:
    """Send a message as a client of a revision does after its handshake, if it has one."""
    params = params or {}
    if version < VERSION_HEADER_SINCE:
        return await post_message(url, method, params)
    headers = {"mcp_protocol_version": version}
    if version == MODERN:
        headers["mcp_method"] = method
        if name := params.get("name"):
            headers["mcp_name"] = name
        params = {**params, "_meta": MODERN_REQUEST_META}
    return await post_message(url, method, params, **headers)


async def send_for_result(url: str, version: str, method: str, **params: Any) -> dict[str, Any]:
    """Send a message that has to be answered."""
    response = await send(url, version, method, params)
    message = response.json()
    assert response.status_code == HTTPStatus.OK, response.text
    assert (message["jsonrpc"], message["id"]) == ("2.0", 1)
    result: dict[str, Any] = message["result"]
    return result


@pytest.mark.parametrize("version", LEGACY)
async def test_a_handshake_agrees_on_the_version_of_the_client(
    service_url: str, version: str
) -> None:
    """And assigns no session: any replica takes the next message."""
    hello = {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT}
    response = await post_message(service_url, "initialize", hello)
    accepted = await post_message(service_url, "notifications/initialized", {})

    result = response.json()["result"]
    assert result["protocolVersion"] == version
    assert result["serverInfo"]["name"] == "holdfast"
    assert {"tools", "resources", "prompts"} <= result["capabilities"].keys()
    assert "launch_job" in result["instructions"]
    assert "mcp-session-id" not in response.headers
    assert accepted.is_success


async def test_a_handshake_with_an_unknown_version_is_answered_with_a_known_one(
    service_url: str,
) -> None:
    """The client then decides; the newest is offered that has a handshake."""
    hello = {"protocolVersion": "2023-01-01", "capabilities": {}, "clientInfo": CLIENT}

    response = await post_message(service_url, "initialize", hello)

    assert response.json()["result"]["protocolVersion"] == LEGACY[-1]


async def test_the_newest_revision_discovers_without_a_handshake(service_url: str) -> None:
    """`server/discover` says what `initialize` said, and which versions there are."""
    result = await send_for_result(service_url, MODERN, "server/discover")

    assert set(result["supportedVersions"]) >= {MODERN}
    assert {"tools", "resources", "prompts"} <= result["capabilities"].keys()
    assert "launch_job" in result["instructions"]


@pytest.mark.parametrize("version", [*LEGACY, MODERN])
async def test_tools_are_listed(service_url: str, version: str) -> None:
    """All of them, each with a schema that has an object at its root."""
    tools = (await send_for_result(service_url, version, "tools/list"))["tools"]

    assert len(tools) == TOOL_COUNT
    assert {tool["inputSchema"]["type"] for tool in tools} == {"object"}


@pytest.mark.parametrize("version", [*LEGACY, MODERN])
async def test_a_call_is_answered_in_the_form_of_the_revision(
    service_url: str, version: str
) -> None:
    """A text in each; what a client of 2026 is told besides, older ones need not understand."""
    result = await send_for_result(service_url, version, "tools/call", **RIGHT_CALL)

    assert result["content"][0]["type"] == "text"
    assert not result.get("isError")
    assert result["structuredContent"]["jobs"] == []
    assert result.get("resultType") == ("complete" if version == MODERN else None)


@pytest.mark.parametrize("version", [*LEGACY, MODERN])
async def test_a_wrong_argument_is_an_answer_and_no_error_of_the_protocol(
    service_url: str, version: str
) -> None:
    """A model reads it, and corrects the call."""
    result = await send_for_result(service_url, version, "tools/call", **WRONG_CALL)

    assert result["isError"] is True
    assert "limit" in result["content"][0]["text"]
    assert result["_meta"]["holdfast/error"]["code"] == "Invalid"
    assert "structuredContent" not in result


@pytest.mark.parametrize("version", [*LEGACY, MODERN])
@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("tools/call", UNKNOWN_CALL, -32602),
        ("tools/call", {}, -32602),
        ("no/such/method", {}, -32601),
    ],
    ids=["unknown tool", "no name", "unknown method"],
)
async def test_what_does_not_exist_is_an_error_of_the_protocol(
    service_url: str, version: str, method: str, params: dict[str, Any], code: int
) -> None:
    """With the id of the request, so that a client finds whose answer it is."""
    response = await send(service_url, version, method, params)

    message = response.json()
    assert (message["id"], message["error"]["code"]) == (1, code)
    assert message["error"]["message"]


@pytest.mark.parametrize("version", [*LEGACY, MODERN])
async def test_prompts_and_resources_are_listed(service_url: str, version: str) -> None:
    """By the same names in each revision."""
    prompts = (await send_for_result(service_url, version, "prompts/list"))["prompts"]
    resources = (await send_for_result(service_url, version, "resources/list"))["resources"]

    assert "run_and_watch" in {prompt["name"] for prompt in prompts}
    assert "holdfast://help" in {resource["uri"] for resource in resources}


@pytest.mark.parametrize("version", ["2023-01-01", "2099-01-01", "x"])
async def test_a_header_with_an_unknown_version_is_refused(service_url: str, version: str) -> None:
    """Its messages are read in no other one."""
    response = await post_message(service_url, "tools/list", {}, mcp_protocol_version=version)

    assert response.status_code == HTTPStatus.BAD_REQUEST
    assert "protocolVersion" in response.json()["error"]["message"]


async def test_the_newest_revision_compares_the_headers_with_the_body(service_url: str) -> None:
    """Proxies decide by the headers, so they must not say anything else."""
    params = {**RIGHT_CALL, "_meta": MODERN_REQUEST_META}
    headers = {"mcp_protocol_version": MODERN, "mcp_method": "tools/call"}

    wrong_name = await post_message(service_url, "tools/call", params, mcp_name="whoami", **headers)
    wrong_version = await post_message(
        service_url,
        "tools/list",
        {"_meta": {**MODERN_REQUEST_META, f"{META_PREFIX}/protocolVersion": "2099-01-01"}},
        mcp_protocol_version="2099-01-01",
        mcp_method="tools/list",
    )

    assert wrong_name.status_code == HTTPStatus.BAD_REQUEST
    assert wrong_name.json()["error"]["code"] == -32020
    assert wrong_version.status_code == HTTPStatus.BAD_REQUEST
    assert wrong_version.json()["error"]["code"] == -32022
    assert MODERN in wrong_version.json()["error"]["data"]["supported"]
