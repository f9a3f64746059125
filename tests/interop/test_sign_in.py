"""Sign-in by the official clients: no token is typed in, and no client is set up before."""

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from service.local.hub_emulator.users import load_users
from service.local.stack import Stack
from tests.interop import node_packages
from tests.support.http_clients import AsyncHttpClient
from tests.support.oauth.mcp_client_auth import (
    ConsentingBrowser,
    MemoryTokenStorage,
    make_oauth_provider,
)
from tests.support.polling import HTTP_TIMEOUT_SECONDS, eventually

pytestmark = [pytest.mark.xdist_group("stack")]

LAUNCH_ARGUMENTS: dict[str, Any] = {"image": "python:3.12", "command": ["true"]}
ALL_SCOPES = "openid profile jobs inference-api contribute-repos read-repos"
DEFAULT_TOKEN_LIFETIME_SECONDS = 28_800
SHORT_TOKEN_LIFETIME_SECONDS = 5
"""How long a token is valid here, so that one is replaced during a test."""


@pytest.fixture
async def hub_browser(stack: Stack) -> AsyncGenerator[httpx2.AsyncClient]:
    """The Hub, whose tokens live briefly meanwhile."""
    token = load_users(stack.folder / "hub")[0].token
    headers = {"authorization": f"Bearer {token}"}
    async with AsyncHttpClient(
        base_url=stack.hub_url, headers=headers, timeout=HTTP_TIMEOUT_SECONDS
    ) as admin:
        await admin.post(
            "/_emulator/oauth/lifetime", json={"seconds": SHORT_TOKEN_LIFETIME_SECONDS}
        )
        async with AsyncHttpClient(base_url=stack.hub_url, timeout=HTTP_TIMEOUT_SECONDS) as browser:
            yield browser
        await admin.post(
            "/_emulator/oauth/lifetime", json={"seconds": DEFAULT_TOKEN_LIFETIME_SECONDS}
        )


async def test_the_python_client_signs_in_steps_up_and_outlives_its_token(
    stack: Stack, hub_browser: httpx2.AsyncClient
) -> None:
    """It registers itself, is sent for the scope a launch needs, and refreshes what expires."""
    browser, memory = (
        ConsentingBrowser(hub_browser, first_grant_scopes="openid profile"),
        MemoryTokenStorage(),
    )
    provider = make_oauth_provider(f"{stack.url}/mcp?login", browser, memory)
    async with (
        AsyncHttpClient(auth=provider, timeout=HTTP_TIMEOUT_SECONDS) as http,
        Client(streamable_http_client(f"{stack.url}/mcp?login", http_client=http)) as client,
    ):
        assert memory.tokens is not None
        granted = memory.tokens.scope
        launched = await client.call_tool("launch_job", LAUNCH_ARGUMENTS)
        stepped = memory.tokens

        async def call() -> bool:
            answer = await client.call_tool("whoami", {})
            return not answer.is_error and memory.tokens is not stepped

        assert await eventually(call, bool)

    assert granted == "openid profile"
    assert launched.structured_content is not None
    assert launched.structured_content["job_id"].startswith("job_")
    assert "jobs" in (stepped.scope or "").split()
    # When it meets a 401 just as its token expires, it asks the person again (mcp 2.3.0).
    first, second, *_ = browser.visited_urls
    assert first.params["scope"] == ALL_SCOPES
    assert "jobs" in second.params["scope"].split()


async def test_the_newer_typescript_client_signs_in_steps_up_and_outlives_its_token(
    stack: Stack, hub_browser: httpx2.AsyncClient, javascript_folder: Path
) -> None:
    """What hosts are being moved to."""
    report = run_sign_in("v2", stack, javascript_folder, grant="openid profile")

    assert report["granted"] == "openid profile"
    assert "jobs" in report["stepped"].split()
    assert report["job"]["job_id"].startswith("job_")
    assert report["refreshed"]
    assert report["asked"][0] == ALL_SCOPES
    assert len(report["asked"]) == 2


async def test_the_older_typescript_client_is_asked_for_everything_at_once(
    stack: Stack, hub_browser: httpx2.AsyncClient, javascript_folder: Path
) -> None:
    """It answers a 403 with its refresh token, which gives the same scopes again (1.32.2)."""
    report = run_sign_in("v1", stack, javascript_folder, grant=ALL_SCOPES)

    assert report["asked"] == [ALL_SCOPES]
    assert report["job"]["job_id"].startswith("job_")
    assert report["refreshed"]


def run_sign_in(kind: str, stack: Stack, folder: Path, *, grant: str) -> dict[str, Any]:
    command = ["node", "sign_in.mjs", kind, f"{stack.url}/mcp?login", grant]
    done = node_packages.run_node(command, folder)
    assert done.returncode == 0, done.stderr + done.stdout
    report: dict[str, Any] = json.loads(done.stdout)
    return report
