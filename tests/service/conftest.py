"""Fixtures of the service's tests: the service on a port, and the Hub it asks who is calling."""

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from schema.settings import Settings
from service.app import create_app
from service.local.processes.os_account import OsAccount
from tests.support.factories import StartService
from tests.support.http_server import serve_app
from tests.support.hub.fake_hub import FakeHub, run_fake_hub

ORDINARY_ACCOUNT: Final = OsAccount("userns", 12345, 12345)
"""An account without the rights of root, which keeps its way to our files."""


@pytest.fixture
def fake_hub() -> Generator[FakeHub]:
    """A Hub that knows Ada, Bob, and a token of Ada's that may only read."""
    with run_fake_hub() as whoami:
        yield whoami


@pytest.fixture
def start_service(make_settings: Callable[..., Settings], fake_hub: FakeHub) -> StartService:
    """Start a service, at a port if one is given; keyword arguments override its settings."""

    @contextmanager
    def run(*, at: int = 0, **overrides: Any) -> Generator[str]:
        with serve_app(
            create_app(make_settings(**{"hub_url": fake_hub.url, **overrides})), at
        ) as url:
            yield url

    return run


@pytest.fixture
def service_url(start_service: StartService) -> Generator[str]:
    """The URL of a service."""
    with start_service() as url:
        yield url


@pytest.fixture
def ordinary_account() -> OsAccount | None:
    """Return an account that is not root's; None if we are such an account ourselves."""
    if os.geteuid() != 0:
        return None
    if not ORDINARY_ACCOUNT.can_run(sys.executable, "--version"):
        pytest.skip("this machine refuses user namespaces, so root cannot be anybody else")
    return ORDINARY_ACCOUNT
