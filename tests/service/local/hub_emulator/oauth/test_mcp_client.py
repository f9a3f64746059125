"""The official MCP client signs in at the local Hub, as Claude, Cursor and others do."""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

import httpx2
from mcp.client.auth import OAuthClientProvider
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.local.hub_emulator.users import find_user
from tests.support.http_clients import AsyncHttpClient
from tests.support.hub.emulator_process import HubEmulatorProcess
from tests.support.oauth.mcp_client_auth import (
    ConsentingBrowser,
    MemoryTokenStorage,
    make_oauth_provider,
)
from tests.support.polling import HTTP_TIMEOUT_SECONDS

SERVER: Final = "http://mcp.example"


def make_mcp_server(hub_url: str, http: httpx2.AsyncClient) -> Starlette:
    """Build what stands for an MCP server: it names the Hub, and shows it every token it gets."""

    async def answer(request: Request) -> Response:
        whoami = await http.get(
            "/api/whoami-v2", headers={"authorization": request.headers.get("authorization", "")}
        )
        if whoami.is_success:
            return JSONResponse(whoami.json())
        where = f'Bearer resource_metadata="{SERVER}/.well-known/oauth-protected-resource/mcp"'
        return Response(status_code=HTTPStatus.UNAUTHORIZED, headers={"www-authenticate": where})

    async def metadata(_: Request) -> Response:
        return JSONResponse(
            {
                "resource": f"{SERVER}/mcp",
                "authorization_servers": [hub_url],
                "scopes_supported": ["openid", "profile", "jobs"],
            }
        )

    return Starlette(
        routes=[
            Route("/mcp", answer, methods=["POST"]),
            Route("/.well-known/oauth-protected-resource/mcp", metadata),
        ]
    )


@asynccontextmanager
async def open_mcp_client(
    hub: HubEmulatorProcess,
    http: httpx2.AsyncClient,
    browser: ConsentingBrowser,
    storage: MemoryTokenStorage,
) -> AsyncGenerator[tuple[httpx2.AsyncClient, OAuthClientProvider]]:
    """Open a client that reaches the MCP server in here, and the Hub where it is."""
    provider = make_oauth_provider(f"{SERVER}/mcp", browser, storage)
    inside = httpx2.ASGITransport(app=make_mcp_server(hub.url, http))
    async with AsyncHttpClient(
        auth=provider, mounts={SERVER: inside}, timeout=HTTP_TIMEOUT_SECONDS
    ) as client:
        yield client, provider


async def test_the_official_mcp_client_registers_signs_in_and_refreshes(
    hub_emulator: HubEmulatorProcess, anonymous_http: httpx2.AsyncClient
) -> None:
    """Nothing is set up beforehand: all it is given is the address of an MCP server."""
    browser, memory = ConsentingBrowser(anonymous_http), MemoryTokenStorage()
    async with open_mcp_client(hub_emulator, anonymous_http, browser, memory) as (client, provider):
        response = await client.post(f"{SERVER}/mcp")

        assert response.json()["id"] == find_user(hub_emulator.users, "alice").id
        assert response.json()["auth"]["type"] == "oauth"
        assert memory.client is not None
        assert memory.client.client_secret is None
        assert memory.tokens is not None
        assert memory.tokens.scope == "openid profile jobs"
        assert browser.visited_urls[0].params["code_challenge_method"] == "S256"

        first = memory.tokens
        await anonymous_http.post("/_emulator/oauth/expire", json={"token": first.access_token})
        provider.context.token_expiry_time = time.time() - 1
        later = await client.post(f"{SERVER}/mcp")

    assert later.status_code == 200
    assert memory.tokens.access_token != first.access_token
    assert memory.tokens.refresh_token != first.refresh_token
    assert len(browser.visited_urls) == 1


async def test_the_official_mcp_client_signs_in_anew_after_its_session_was_ended(
    hub_emulator: HubEmulatorProcess, anonymous_http: httpx2.AsyncClient
) -> None:
    """What is taken back at the Hub is asked for again, from the user."""
    browser, memory = ConsentingBrowser(anonymous_http), MemoryTokenStorage()
    async with open_mcp_client(hub_emulator, anonymous_http, browser, memory) as (client, _):
        await client.post(f"{SERVER}/mcp")
        assert memory.tokens is not None
        ended = await anonymous_http.post(
            "/_emulator/oauth/revoke", json={"token": memory.tokens.refresh_token}
        )

        again = await client.post(f"{SERVER}/mcp")

    assert (ended.status_code, again.status_code) == (204, 200)
    assert len(browser.visited_urls) == 2
