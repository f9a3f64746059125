"""What gets past the edge, and what is answered before a tool hears of it."""

import json
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2
import pytest
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from schema.accounts.vault import Vault
from schema.db.database import Database
from schema.hub.client import open_hub_client
from service.auth.authenticators import HubAuthenticator
from service.auth.hub_client import HubAccountClient
from service.auth.resource_metadata import ProtectedResourceMetadata
from service.auth.token_verifier import TokenVerifier
from service.database import TenantDatabase
from service.http.middleware import McpEndpoint
from service.http.rate_limit import RateLimiter
from tests.support.factories import StartService
from tests.support.http_clients import AsyncHttpClient
from tests.support.hub.fake_hub import FakeHub
from tests.support.mcp.client import post_message, refusal_code
from tests.support.polling import HTTP_TIMEOUT_SECONDS

METADATA_PATH = "/.well-known/oauth-protected-resource"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_there_is_nothing_to_get_and_no_session_to_delete(
    service_url: str, method: str
) -> None:
    """Legacy clients open a stream after their handshake; it would carry nothing, for ever."""
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        response = await http.request(method, f"{service_url}/mcp")

    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_without_a_token_a_client_is_told_where_to_sign_in(service_url: str) -> None:
    """The challenge is what makes Claude or Cursor open a browser; it accuses nobody."""
    call = {"name": "whoami", "arguments": dict[str, Any]()}
    response = await post_message(service_url, "tools/call", call, authorization="")

    assert response.status_code == 401
    challenge = response.headers["www-authenticate"]
    assert challenge == (
        f'Bearer resource_metadata="http://127.0.0.1:8765{METADATA_PATH}/mcp", '
        'scope="openid profile jobs inference-api contribute-repos read-repos"'
    )


async def test_a_wrong_token_is_challenged_as_invalid(service_url: str) -> None:
    """A client that holds a stale token throws it away only if it is told so."""
    response = await post_message(service_url, "tools/list", authorization="Bearer hf_stale")

    assert response.status_code == 401
    assert response.headers["www-authenticate"].endswith(', error="invalid_token"')
    assert "Sign in again" in response.json()["error"]["message"]


async def test_the_metadata_names_the_hub_as_it_names_itself(
    service_url: str, fake_hub: FakeHub
) -> None:
    """Clients compare the issuer letter by letter; a trailing slash makes it another one."""
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        answers = [
            await http.get(f"{service_url}{path}")
            for path in (METADATA_PATH, f"{METADATA_PATH}/mcp", f"/mcp{METADATA_PATH}")
        ]

    assert answers[0].json() == answers[1].json() == answers[2].json()
    assert answers[0].json()["authorization_servers"] == [fake_hub.url]
    assert answers[0].json()["resource"] == "http://127.0.0.1:8765/mcp"


@pytest.mark.parametrize(
    ("host", "base_url"),
    [
        ("localhost:8765", "http://localhost:8765"),
        ("[::1]:8765", "http://[::1]:8765"),
        ("localhost:8766", "http://127.0.0.1:8765"),
        ("evil.example:8765", "http://127.0.0.1:8765"),
    ],
)
async def test_each_name_of_this_machine_is_the_address_of_the_service(
    service_url: str, host: str, base_url: str
) -> None:
    """Clients compare the resource with the URL that they call, and people write localhost."""
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        metadata = await http.get(f"{service_url}{METADATA_PATH}/mcp", headers={"host": host})
    refusal = await post_message(service_url, "tasks/get", authorization="", host=host)

    assert metadata.json()["resource"] == f"{base_url}/mcp"
    challenge = refusal.headers.get("www-authenticate", f'"{base_url}{METADATA_PATH}/mcp"')
    assert f'"{base_url}{METADATA_PATH}/mcp"' in challenge
    assert refusal.status_code == (421 if "evil" in host else 401)


async def test_the_platforms_own_header_is_understood(service_url: str, fake_hub: FakeHub) -> None:
    """On a Space, Authorization may not get through; X-HF-Authorization does."""
    headers: dict[str, Any] = {"authorization": "", "x_hf_authorization": "Bearer hf_bob"}
    response = await post_message(service_url, "tools/list", **headers)

    assert response.status_code == 200
    assert fake_hub.whoami_tokens == ["hf_bob"]


async def test_authorization_wins_over_the_platforms_header(
    service_url: str, fake_hub: FakeHub
) -> None:
    """One call is one caller."""
    response = await post_message(service_url, "tools/list", x_hf_authorization="Bearer hf_bob")

    assert response.status_code == 200
    assert fake_hub.whoami_tokens == ["hf_ada"]


async def test_nothing_behind_the_middleware_sees_a_credential(
    fake_hub: FakeHub, database: Database, vault: Vault
) -> None:
    """What a tool, a log line or a trace cannot reach, it cannot leak."""
    seen: list[bytes] = []

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(name for name, _ in scope["headers"])
        await Response()(scope, receive, send)

    metadata = ProtectedResourceMetadata("http://edge", fake_hub.url)
    edge = McpEndpoint(
        "http://edge", metadata, json_transport=inside, sse_transport=inside, required_scopes={}
    )
    app = Starlette(routes=[Route("/mcp", edge)])
    headers = {
        "authorization": "Bearer hf_reader",
        "x-hf-authorization": "Bearer hf_bob",
        "content-type": "application/json",
    }
    async with (
        open_hub_client(fake_hub.url) as hub_client,
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://edge") as http,
    ):
        app.state.authenticator = HubAuthenticator(
            TokenVerifier(HubAccountClient(hub_client), TenantDatabase(database), vault)
        )
        app.state.rate_limiter = RateLimiter(Redis(), TenantDatabase(database), limit=0)
        response = await http.post("/mcp", content=b"{}", headers=headers)

    assert response.status_code == 200
    assert b"content-type" in seen
    assert not {b"authorization", b"x-hf-authorization"} & set(seen)


async def test_a_foreign_origin_is_refused(service_url: str, fake_hub: FakeHub) -> None:
    """A page the person happens to visit may not talk to a server on their machine."""
    assert (
        await post_message(service_url, "tools/list", origin="https://evil.example")
    ).status_code == 403
    assert (await post_message(service_url, "tools/list", host="evil.example")).status_code == 421
    assert fake_hub.whoami_tokens == []


async def test_our_public_name_and_this_machine_are_welcome(start_service: StartService) -> None:
    """Behind a proxy we are called by our public name, in front of it by an address."""
    with start_service(public_url="https://holdfast.example") as url:
        for host, origin in (
            ("holdfast.example", "https://holdfast.example"),
            ("localhost:1234", "http://localhost:5173"),
        ):
            response = await post_message(url, "tools/list", host=host, origin=origin)
            assert response.status_code == 200


async def test_a_body_beyond_bounds_is_refused(start_service: StartService) -> None:
    """Nobody fills our memory; least of all somebody who has not said who they are."""
    with start_service() as url:
        large = {"name": "launch_job", "arguments": "x" * (6 * 2**20)}
        response = await post_message(url, "tools/call", large)
        from_nobody = await post_message(url, "tools/list", {"x": "x" * 2**16}, authorization="")

    assert (response.status_code, from_nobody.status_code) == (413, 413)


async def test_what_the_sdk_refuses_is_a_json_rpc_error_too(service_url: str) -> None:
    """Clients show the message of one; of a bare text they show nothing, or only the status."""
    refusals = [
        await post_message(service_url, "tools/list", {"x": "x" * (6 * 2**20)}),
        await post_message(service_url, "tools/list", origin="https://evil.example"),
        await post_message(service_url, "tools/list", host="evil.example"),
        await post_message(service_url, "tools/list", content_type="text/plain"),
        await post_message(
            service_url,
            "tools/list",
            accept="image/png",
            mcp_protocol_version="2026-07-28",
            mcp_method="tools/list",
        ),
    ]

    codes = {refusal.status_code: refusal_code(refusal) for refusal in refusals}
    assert codes == {
        413: "request_too_large",
        403: "invalid_origin",
        421: "invalid_host",
        400: "invalid_content_type",
        406: "not_acceptable",
    }
    for refusal in refusals:
        assert refusal.json()["id"] is None
        assert refusal.json()["error"]["message"].endswith(".")
        assert "x-request-id" in refusal.headers


async def test_only_a_caller_who_wants_progress_is_answered_as_a_stream(service_url: str) -> None:
    """A plain answer costs half as much, and is not cut off when a client goes away."""
    params: dict[str, Any] = {"name": "list_jobs", "arguments": {}}
    plain = await post_message(service_url, "tools/call", params)
    stream = await post_message(service_url, "tools/call", params | {"_meta": {"progressToken": 1}})

    assert plain.headers["content-type"].startswith("application/json")
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert plain.json()["result"]["structuredContent"] == {
        "jobs": [],
        "next_cursor": None,
        "searched_until": None,
    }


async def test_blanks_around_a_protocol_header_are_forgiven(service_url: str) -> None:
    """httptools leaves them in, and the SDK would call it a mismatch."""
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params: dict[str, Any] = {"name": "list_jobs", "arguments": {}, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    address = urlsplit(service_url)
    head = [
        "POST /mcp HTTP/1.1",
        f"Host: {address.netloc}",
        "Authorization: Bearer hf_ada",
        "Content-Type: application/json",
        "Accept: application/json, text/event-stream",
        "MCP-Protocol-Version: 2026-07-28",
        "Mcp-Method: tools/call",
        "Mcp-Name:   list_jobs \t",
        f"Content-Length: {len(body)}",
    ]
    # By hand: no HTTP client would send it like this.
    async with await anyio.connect_tcp(address.hostname or "", address.port or 0) as stream:
        await stream.send("\r\n".join([*head, "", body]).encode())
        answer = await stream.receive()

    assert answer.startswith(b"HTTP/1.1 200")


async def test_a_hub_that_fails_lets_nobody_in(service_url: str, fake_hub: FakeHub) -> None:
    """No answer is not a yes; the client is told when to come again."""
    fake_hub.failure_response = JSONResponse({"error": "oops"}, 500)
    down = await post_message(service_url, "tools/list")
    fake_hub.failure_response = JSONResponse({}, 429, {"retry-after": "17"})
    limited = await post_message(service_url, "tools/list", authorization="Bearer hf_bob")

    assert (down.status_code, down.headers["retry-after"]) == (503, "5")
    assert (limited.status_code, limited.headers["retry-after"]) == (503, "17")


async def test_a_hub_that_cannot_be_reached_lets_nobody_in(start_service: StartService) -> None:
    """Nor is silence."""
    with start_service(hub_url="http://127.0.0.1:1") as url:
        assert (await post_message(url, "tools/list")).status_code == 503


async def test_a_token_longer_than_any_is_not_asked_about(service_url: str) -> None:
    """Whatever somebody pastes into a header is not sent on to the Hub."""
    response = await post_message(
        service_url, "tools/list", authorization=f"Bearer hf_{'x' * 5000}"
    )

    assert response.status_code == 401
    assert "longer than any token" in response.json()["error"]["message"]
