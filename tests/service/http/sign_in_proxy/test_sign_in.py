"""Clients that can only register, at an authorization server where nobody can."""

from collections.abc import Generator
from typing import Any

import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from service.local.ports import find_free_port
from tests.support.factories import StartService
from tests.support.http_clients import AsyncHttpClient
from tests.support.hub.emulator_process import HubEmulatorProcess, run_hub_emulator
from tests.support.hub.fake_hub import FakeHub
from tests.support.oauth.mcp_client_auth import (
    ConsentingBrowser,
    MemoryTokenStorage,
    make_oauth_provider,
)
from tests.support.polling import HTTP_TIMEOUT_SECONDS

METADATA_PATH = "/.well-known/oauth-authorization-server"


@pytest.fixture(scope="module")
def hub_emulator(tmp_path_factory: pytest.TempPathFactory) -> Generator[HubEmulatorProcess]:
    with run_hub_emulator(tmp_path_factory.mktemp("hub")) as running:
        yield running


async def test_nobody_registers_unless_that_is_asked_for(
    service_url: str, fake_hub: FakeHub
) -> None:
    """The Hub registers clients itself; a second place would only be one more to attack."""
    del fake_hub
    async with AsyncHttpClient(base_url=service_url, timeout=HTTP_TIMEOUT_SECONDS) as http:
        answer = await http.post("/oauth/register", json={})

    assert answer.status_code == 404


async def test_old_clients_find_the_metadata_at_our_origin(
    start_service: StartService, hub_emulator: HubEmulatorProcess
) -> None:
    """Those of protocol 2025-03-26 look nowhere else; what they find is the issuer's own."""
    with start_service(hub_url=hub_emulator.url) as url:
        async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
            mirrored = (await http.get(f"{url}{METADATA_PATH}")).json()
            own = (await http.get(f"{hub_emulator.url}{METADATA_PATH}")).json()

    assert mirrored == own
    assert mirrored["issuer"] == hub_emulator.url


async def test_the_operator_can_mend_the_metadata(
    start_service: StartService, hub_emulator: HubEmulatorProcess
) -> None:
    """Some servers leave out what clients insist on."""
    overrides = {"registration_endpoint": "https://id.example/register"}
    with start_service(hub_url=hub_emulator.url, oauth_metadata=overrides) as url:
        async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
            metadata = (await http.get(f"{url}{METADATA_PATH}")).json()

    assert metadata["registration_endpoint"] == "https://id.example/register"
    assert metadata["token_endpoint"] == f"{hub_emulator.url}/oauth/token"


@pytest.mark.parametrize("method", ["none", "client_secret_basic", "client_secret_post"])
async def test_a_client_registers_here_and_signs_in_there(
    start_service: StartService, hub_emulator: HubEmulatorProcess, method: str
) -> None:
    """The official client is given the address of the service, and nothing else.

    The server sends `iss`, which the client compares; and no client gets the secret.
    """
    port = find_free_port()
    public_url = f"http://127.0.0.1:{port}"
    async with AsyncHttpClient(base_url=hub_emulator.url, timeout=HTTP_TIMEOUT_SECONDS) as hub:
        made = await hub.post(
            "/oauth/register",
            json={
                "redirect_uris": [f"{public_url}/oauth/callback"],
                "token_endpoint_auth_method": method,
                "scope": "openid profile jobs inference-api",
            },
        )
        application = made.json()
        browser, memory = ConsentingBrowser(hub), MemoryTokenStorage()
        with start_service(
            hub_url=hub_emulator.url,
            oauth_client_id=application["client_id"],
            oauth_client_secret=application.get("client_secret"),
            oauth_metadata={"token_endpoint_auth_methods_supported": [method]},
            public_url=public_url,
            at=port,
        ) as url:
            provider = make_oauth_provider(f"{url}/mcp", browser, memory)
            async with (
                AsyncHttpClient(auth=provider, timeout=HTTP_TIMEOUT_SECONDS) as http,
                Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
            ):
                answer = await client.call_tool("whoami", {})
            assert memory.client is not None
            assert memory.tokens is not None
            refreshed = await http_refresh(url, memory)

    assert answer.structured_content is not None
    assert answer.structured_content["name"] == "alice"
    assert answer.structured_content["missing_scopes"] == []
    assert str(browser.visited_urls[0]).startswith(f"{public_url}/oauth/authorize")
    assert browser.redirected_url.params["iss"] == public_url
    assert application["client_id"] not in memory.client.client_id
    assert memory.client.client_secret is None
    assert refreshed["access_token"] != memory.tokens.access_token
    assert refreshed["refresh_token"] != memory.tokens.refresh_token


async def http_refresh(url: str, memory: MemoryTokenStorage) -> dict[str, Any]:
    """Get new tokens, as a client does when the old one has expired."""
    assert memory.client is not None
    assert memory.tokens is not None
    form = {
        "grant_type": "refresh_token",
        "refresh_token": memory.tokens.refresh_token,
        "client_id": memory.client.client_id,
    }
    async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        answer = await http.post(f"{url}/oauth/token", data=form)
    assert answer.status_code == 200, answer.text
    tokens: dict[str, Any] = answer.json()
    return tokens


async def test_the_metadata_is_of_the_service(
    start_service: StartService, hub_emulator: HubEmulatorProcess
) -> None:
    """A client compares the issuer with the one that the resource names."""
    with start_service(
        hub_url=hub_emulator.url, oauth_client_id="app", public_url="http://127.0.0.1:9"
    ) as url:
        async with AsyncHttpClient(base_url=url, timeout=HTTP_TIMEOUT_SECONDS) as http:
            metadata = (await http.get(METADATA_PATH)).json()
            resource = (await http.get("/.well-known/oauth-protected-resource/mcp")).json()

    assert metadata["issuer"] == "http://127.0.0.1:9"
    assert metadata["registration_endpoint"] == "http://127.0.0.1:9/oauth/register"
    assert metadata["authorization_endpoint"] == "http://127.0.0.1:9/oauth/authorize"
    assert metadata["scopes_supported"][:3] == ["openid", "profile", "jobs"]
    assert resource["authorization_servers"] == ["http://127.0.0.1:9"]


async def test_a_server_that_is_away_is_said_to_be_so(start_service: StartService) -> None:
    """A client tries again; a made-up answer would be kept."""
    with start_service(hub_url="http://127.0.0.1:9") as url:
        async with AsyncHttpClient(base_url=url, timeout=HTTP_TIMEOUT_SECONDS) as http:
            answer = await http.get(METADATA_PATH)

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
