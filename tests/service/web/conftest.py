"""Fixtures of signing in: a service whose pages know a Hub, and the browsers of people."""

from collections.abc import AsyncGenerator, Generator

import httpx2
import pytest

from service.local.hub_emulator.oauth.clients import PAGES_CLIENT_ID
from service.local.ports import find_free_port
from tests.service.web.site import HTML
from tests.support.factories import StartService
from tests.support.hub.emulator_process import HubEmulatorProcess, run_hub_emulator
from tests.support.oauth.web_person import WebPerson
from tests.support.polling import HTTP_TIMEOUT_SECONDS


@pytest.fixture(scope="session")
def hub_emulator(tmp_path_factory: pytest.TempPathFactory) -> Generator[HubEmulatorProcess]:
    """A Hub where people sign in."""
    with run_hub_emulator(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def pages_url(start_service: StartService, hub_emulator: HubEmulatorProcess) -> Generator[str]:
    """A service whose people sign in there."""
    port = find_free_port()
    with start_service(
        hub_url=hub_emulator.url,
        hf_oauth_client_id=PAGES_CLIENT_ID,
        public_url=f"http://127.0.0.1:{port}",
        at=port,
    ) as url:
        yield url


@pytest.fixture
async def alice(pages_url: str) -> AsyncGenerator[WebPerson]:
    """The browser of Alice."""
    async with httpx2.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS, headers=HTML) as http:
        yield WebPerson(http, pages_url, "alice")


@pytest.fixture
async def bob(pages_url: str) -> AsyncGenerator[WebPerson]:
    """The browser of Bob."""
    async with httpx2.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS, headers=HTML) as http:
        yield WebPerson(http, pages_url, "bob")
