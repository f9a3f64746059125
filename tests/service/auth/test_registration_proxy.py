"""Clients that can only register, at an authorization server where nobody can."""

import json
from collections.abc import Generator

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from service.local.ports import find_free_port
from tests.support.factories import StartService
from tests.support.hub.emulator_process import HubEmulatorProcess, run_hub_emulator
from tests.support.mcp.client import post_message
from tests.support.oauth.consent_browser import REDIRECT_URI
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


async def test_it_is_not_there_unless_it_is_asked_for(service_url: str) -> None:
    """The Hub registers clients itself; a second place would only be one more to attack."""
    async with httpx2.AsyncClient(base_url=service_url, timeout=HTTP_TIMEOUT_SECONDS) as http:
        answers = [await http.get(METADATA_PATH), await http.post("/oauth/register", json={})]

    assert [answer.status_code for answer in answers] == [404, 404]


async def test_a_client_registers_here_and_signs_in_there(
    start_service: StartService, hub_emulator: HubEmulatorProcess
) -> None:
    """The official client is given the address of the service, and nothing else."""
    async with httpx2.AsyncClient(base_url=hub_emulator.url, timeout=HTTP_TIMEOUT_SECONDS) as hub:
        registration = {
            "redirect_uris": [REDIRECT_URI],
            "token_endpoint_auth_method": "none",
            "scope": "openid profile jobs inference-api",
        }
        made = await hub.post("/oauth/register", json=registration)
        ours = made.json()["client_id"]
        port = find_free_port()
        browser, memory = ConsentingBrowser(hub), MemoryTokenStorage()
        with start_service(
            hub_url=hub_emulator.url,
            oauth_client_id=ours,
            public_url=f"http://127.0.0.1:{port}",
            at=port,
        ) as url:
            provider = make_oauth_provider(f"{url}/mcp", browser, memory)
            async with (
                httpx2.AsyncClient(auth=provider, timeout=HTTP_TIMEOUT_SECONDS) as http,
                Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
            ):
                answer = await client.call_tool("whoami", {})

    assert answer.structured_content is not None
    assert answer.structured_content["name"] == "alice"
    assert memory.client is not None
    assert memory.client.client_id == ours
    assert str(browser.visited_urls[0]).startswith(f"{hub_emulator.url}/oauth/authorize")


@pytest.mark.parametrize(
    "redirect",
    ["http://evil.example/callback", "javascript:alert(1)", "https://user@host/", "//evil.example"],
)
async def test_nobody_registers_an_address_that_others_could_read(
    start_service: StartService, hub_emulator: HubEmulatorProcess, redirect: str
) -> None:
    """The server would refuse to send anybody there; so is the answer here."""
    with start_service(hub_url=hub_emulator.url, oauth_client_id="app") as url:
        async with httpx2.AsyncClient(base_url=url, timeout=HTTP_TIMEOUT_SECONDS) as http:
            answer = await http.post("/oauth/register", json={"redirect_uris": [redirect]})

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_redirect_uri")


async def test_a_page_cannot_register_by_a_form(
    start_service: StartService, hub_emulator: HubEmulatorProcess
) -> None:
    """What says it is JSON cannot be sent by a page of another origin unasked; text can."""
    body = json.dumps({"redirect_uris": [REDIRECT_URI]}).encode()
    headers = {"content-type": "text/plain"}
    with start_service(hub_url=hub_emulator.url, oauth_client_id="app") as url:
        async with httpx2.AsyncClient(base_url=url, timeout=HTTP_TIMEOUT_SECONDS) as http:
            answer = await http.post("/oauth/register", content=body, headers=headers)

    assert answer.status_code == 400


async def test_the_metadata_keeps_what_is_true_under_another_name(
    start_service: StartService, hub_emulator: HubEmulatorProcess
) -> None:
    """People sign in at the server itself; only the name and the place to register are ours."""
    with start_service(
        hub_url=hub_emulator.url, oauth_client_id="app", public_url="http://127.0.0.1:9"
    ) as url:
        async with httpx2.AsyncClient(base_url=url, timeout=HTTP_TIMEOUT_SECONDS) as http:
            metadata = (await http.get(METADATA_PATH)).json()
            resource = (await http.get("/.well-known/oauth-protected-resource/mcp")).json()

    assert metadata["issuer"] == "http://127.0.0.1:9"
    assert metadata["registration_endpoint"] == "http://127.0.0.1:9/oauth/register"
    assert metadata["authorization_endpoint"] == f"{hub_emulator.url}/oauth/authorize"
    assert "authorization_response_iss_parameter_supported" not in metadata
    assert resource["authorization_servers"] == ["http://127.0.0.1:9"]


async def test_a_server_that_is_away_is_said_to_be_so(start_service: StartService) -> None:
    """A client tries again; a made-up answer would be kept."""
    with start_service(hub_url="http://127.0.0.1:9", oauth_client_id="app") as url:
        async with httpx2.AsyncClient(base_url=url, timeout=HTTP_TIMEOUT_SECONDS) as http:
            answer = await http.get(METADATA_PATH)

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"


async def test_a_token_longer_than_any_is_not_asked_about(service_url: str) -> None:
    """Whatever somebody pastes into a header is not sent on to the Hub."""
    response = await post_message(
        service_url, "tools/list", authorization=f"Bearer hf_{'x' * 5000}"
    )

    assert response.status_code == 401
    assert "longer than any token" in response.json()["error"]["message"]
