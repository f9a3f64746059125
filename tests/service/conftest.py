"""Fixtures of the service's tests: the service on a port, and the Hub it asks who is calling."""

# redis 5 leaves its keyword arguments untyped.
# pyright: reportUnknownMemberType=false

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from typing import Any, Final, cast

import pytest
from redis import ConnectionError as RedisConnectionError
from redis import Redis

from schema.jobs.tables import JobKind
from schema.settings import Settings
from service.app import assemble_app, build_all_tools
from service.local.processes.os_account import OsAccount
from service.mcp.prompts import build_prompts
from service.mcp.tool import McpTool
from tests.support.factories import StartService
from tests.support.http_server import serve_app
from tests.support.hub.fake_hub import FakeHub, run_fake_hub

ORDINARY_ACCOUNT: Final = OsAccount("userns", 12345, 12345)
"""An account without the rights of root, which keeps its way to our files."""


@cache
def build_tools(retention: tuple[tuple[str, timedelta], ...]) -> list[McpTool]:
    """Build the tools, once for all services of this process: their schemas take the longest."""
    return build_all_tools(dict(retention).__getitem__)


build_prompts_once = cache(build_prompts)
"""As above: nobody changes a prompt."""


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
        settings = make_settings(**{"hub_url": fake_hub.url, **overrides})
        if "calls_per_minute" in overrides:
            forget_calls(str(settings.redis_url))
        tools = build_tools(tuple((kind, settings.retention_of(kind)) for kind in JobKind))
        with serve_app(assemble_app(settings, tools, build_prompts_once()), at) as url:
            yield url

    return run


def forget_calls(redis_url: str) -> None:
    """Delete what earlier tests of this process have called: they share people, and an address."""
    with suppress(RedisConnectionError), Redis.from_url(redis_url) as redis:
        for key in cast("list[bytes]", redis.keys("holdfast:calls:*")):
            redis.delete(key)


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
