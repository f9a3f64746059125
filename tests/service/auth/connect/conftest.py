"""Fixtures of connecting: a service behind an authorization server, with applications at both."""

from collections.abc import AsyncGenerator, Generator

import httpx2
import pytest

from service.local.ports import find_free_port
from tests.support.factories import StartService
from tests.support.hub.emulator_process import HubEmulatorProcess, run_hub_emulator
from tests.support.oauth.authorization_server import AuthorizationServer
from tests.support.oauth.connecting import ConnectingBrowser
from tests.support.polling import HTTP_TIMEOUT_SECONDS

CLIENT_ID = "holdfast"


@pytest.fixture(scope="session")
def hub_emulator(tmp_path_factory: pytest.TempPathFactory) -> Generator[HubEmulatorProcess]:
    """A Hub where people sign in."""
    with run_hub_emulator(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
async def connecting_url(
    start_service: StartService,
    hub_emulator: HubEmulatorProcess,
    authorization_server: AuthorizationServer,
) -> AsyncGenerator[str]:
    """A service where accounts can be connected."""
    port = find_free_port()
    public_url = f"http://127.0.0.1:{port}"
    authorization_server.sign_in_endpoints.clients[CLIENT_ID] = [f"{public_url}/connect/sign-in"]
    async with httpx2.AsyncClient(base_url=hub_emulator.url, timeout=HTTP_TIMEOUT_SECONDS) as hub:
        made = await hub.post(
            "/oauth/register",
            json={"redirect_uris": [f"{public_url}/connect/hugging-face"]},
        )
    application = made.json()
    with start_service(
        auth="jwt",
        jwt_issuer=authorization_server.issuer,
        oauth_client_id=CLIENT_ID,
        hub_url=hub_emulator.url,
        hf_oauth_client_id=application["client_id"],
        hf_oauth_client_secret=application["client_secret"],
        public_url=public_url,
        at=port,
    ) as url:
        yield url


@pytest.fixture
async def person(connecting_url: str) -> AsyncGenerator[ConnectingBrowser]:
    """The browser of Alice."""
    async with httpx2.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        yield ConnectingBrowser(http, connecting_url)


@pytest.fixture
async def stranger(connecting_url: str) -> AsyncGenerator[ConnectingBrowser]:
    """The browser of Bob, who wants to act as Alice."""
    async with httpx2.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        yield ConnectingBrowser(http, connecting_url, "bob")
