"""Servers of these tests' own: what they do to roles, no other test may see; and processes."""

from collections.abc import Callable, Generator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from schema.settings import Settings
from tests.operate.deployments import Deployment
from tests.support.database.servers import find_system_postgres, run_postgres
from tests.support.hub.emulator_process import HubEmulatorProcess, run_hub_emulator


@pytest.fixture(scope="module", params=["wheel", "system"])
def bare_postgres_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[str]:
    """A server without our roles: that of the wheel, and the one that Debian or Ubuntu installs."""
    with pytest.MonkeyPatch.context() as environment:
        if request.param == "system":
            environment.setenv("HOLDFAST_POSTGRES_BIN", str(find_system_postgres()))
        with run_postgres(tmp_path_factory.mktemp("bare")) as url:
            yield url


@pytest.fixture
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[HubEmulatorProcess]:
    """A Hub whose jobs run; its parameter is how far its clock is ahead of ours."""
    ahead: timedelta = getattr(request, "param", timedelta(0))
    with run_hub_emulator(tmp_path / "hub", ahead=ahead) as running:
        yield running


@pytest.fixture
def deployment(
    make_settings: Callable[..., Settings], hub: HubEmulatorProcess, vault_keys: str, tmp_path: Path
) -> Generator[Deployment]:
    """Servers for processes of which none runs yet."""
    settings = make_settings()
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "COLUMNS": "300",
        "HOLDFAST_DATABASE_URL": str(settings.database_url),
        "HOLDFAST_REDIS_URL": str(settings.redis_url),
        "HOLDFAST_HUB_URL": hub.url,
        "HOLDFAST_ROUTER_URL": hub.url,
        "HOLDFAST_VAULT_KEYS": vault_keys,
        "HOLDFAST_CALLS_PER_MINUTE": "0",
        "HOLDFAST_OBSERVE_MIN": "0.5s",
    }
    with ExitStack() as processes:
        yield Deployment(environment, tmp_path, processes)
