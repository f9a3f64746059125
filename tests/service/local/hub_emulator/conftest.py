"""The Hub emulator of these tests, and clients of it."""

from collections.abc import AsyncGenerator, Generator

import httpx2
import pytest
from huggingface_hub import HfApi

from tests.support.http_clients import AsyncHttpClient
from tests.support.hub.emulator_process import HubEmulatorProcess, run_hub_emulator
from tests.support.polling import HTTP_TIMEOUT_SECONDS


@pytest.fixture(scope="session")
def hub_emulator(tmp_path_factory: pytest.TempPathFactory) -> Generator[HubEmulatorProcess]:
    """The Hub of all tests that leave it as it was."""
    with run_hub_emulator(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def alice_api(hub_emulator: HubEmulatorProcess) -> HfApi:
    """The client of a user who may act and pay."""
    return hub_emulator.api()


@pytest.fixture
async def anonymous_http(hub_emulator: HubEmulatorProcess) -> AsyncGenerator[httpx2.AsyncClient]:
    """A plain client that shows no token."""
    async with AsyncHttpClient(base_url=hub_emulator.url, timeout=HTTP_TIMEOUT_SECONDS) as client:
        yield client
