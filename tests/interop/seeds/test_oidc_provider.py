"""oidc-provider, which is certified, as an authorization server that takes resource indicators.

Clients register at it, or Holdfast signs them in through the one confidential application there.
"""

import json
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from service.local.ports import find_free_port
from tests.interop import node_packages
from tests.interop.seeds.capabilities import OIDC_PROVIDER, read_jwt
from tests.interop.seeds.conftest import RunService, run_server, seeds_only
from tests.support.oauth.mcp_client_auth import (
    ConsentingBrowser,
    MemoryTokenStorage,
    make_oauth_provider,
)
from tests.support.polling import HTTP_TIMEOUT_SECONDS, eventually

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(240)]

TOKEN_LIFETIME_SECONDS = 6
SECRET = "a secret that no client gets, of 40 letters"
LAUNCH_ARGUMENTS: dict[str, Any] = {"image": "python:3.12", "command": ["true"]}
KINDS = (("v1", "TypeScript SDK 1"), ("v2", "TypeScript SDK 2"))


def mark_kinds(what: str) -> Any:
    """Return each TypeScript client, with the capability that a test of it shows."""
    return [
        pytest.param(kind, marks=pytest.mark.capability(OIDC_PROVIDER, f"{what} ({name})"))
        for kind, name in KINDS
    ]


@pytest.fixture(scope="module")
def proxy_port() -> int:
    """The port of the service that signs clients in by itself."""
    return find_free_port()


@pytest.fixture(scope="module")
def issuer(proxy_port: int, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """An oidc-provider."""
    port = find_free_port()
    url = f"http://127.0.0.1:{port}"
    redirect_uri = f"http://127.0.0.1:{proxy_port}/oauth/callback"
    script = ("oidc_provider.mjs", str(port), str(TOKEN_LIFETIME_SECONDS), redirect_uri)
    with run_server(
        "oidc-provider",
        (node_packages.find_program("node"), *script),
        os.environ | {"CLIENT_SECRET": SECRET},
        tmp_path_factory.mktemp("oidc") / "log",
        f"{url}/.well-known/openid-configuration",
        folder=node_packages.install_packages(),
    ):
        yield url


@pytest.fixture(scope="module")
def holdfast(issuer: str, run_service: RunService) -> Generator[str]:
    """A service whose clients register at the oidc-provider."""
    with run_service(
        HOLDFAST_AUTH="jwt", HOLDFAST_JWT_ISSUER=issuer, HOLDFAST_JWT_LEEWAY="3s"
    ) as url:
        yield url


@pytest.fixture(scope="module")
def proxy(issuer: str, proxy_port: int, run_service: RunService) -> Generator[str]:
    """A service that signs clients in through its own application."""
    with run_service(
        proxy_port,
        HOLDFAST_AUTH="jwt",
        HOLDFAST_JWT_ISSUER=issuer,
        HOLDFAST_JWT_LEEWAY="3s",
        HOLDFAST_OAUTH_CLIENT_ID="holdfast",
        HOLDFAST_OAUTH_CLIENT_SECRET=SECRET,
    ) as url:
        yield url


@asynccontextmanager
async def sign_in(
    url: str, hub_token: str
) -> AsyncGenerator[tuple[Client, ConsentingBrowser, MemoryTokenStorage]]:
    """Connect the Python client, which is sent to sign in."""
    headers = {"X-HF-Authorization": f"Bearer {hub_token}"}
    async with httpx2.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS) as person:
        browser, memory = ConsentingBrowser(person), MemoryTokenStorage()
        provider = make_oauth_provider(f"{url}/mcp?login", browser, memory)
        async with (
            httpx2.AsyncClient(
                auth=provider, headers=headers, timeout=HTTP_TIMEOUT_SECONDS
            ) as http,
            Client(streamable_http_client(f"{url}/mcp?login", http_client=http)) as client,
        ):
            yield client, browser, memory


async def launch_and_outlive(url: str, hub_token: str) -> MemoryTokenStorage:
    """Launch, and call until the token has been replaced without the person."""
    async with sign_in(url, hub_token) as (client, browser, memory):
        launched = await client.call_tool("launch_job", LAUNCH_ARGUMENTS)

        async def is_refreshed() -> bool:
            # When it meets a 401 just as its token expires, it asks the person again (mcp 2.3.0).
            tokens, visits = memory.tokens, len(browser.visited_urls)
            answer = await client.call_tool("whoami", {})
            replaced = memory.tokens is not tokens and len(browser.visited_urls) == visits
            return replaced and not answer.is_error

        assert await eventually(is_refreshed, bool)

    assert not launched.is_error, launched.content
    return memory


@seeds_only
@pytest.mark.capability(OIDC_PROVIDER, "registration, launch and refresh (Python SDK)")
async def test_a_client_registers_and_names_the_resource(
    holdfast: str, issuer: str, hub_token: str
) -> None:
    """The token is for our endpoint alone, because the client names it (RFC 8707)."""
    memory = await launch_and_outlive(holdfast, hub_token)

    assert memory.tokens is not None
    header, claims = read_jwt(memory.tokens.access_token)
    assert header["typ"] == "at+jwt"
    assert (claims["iss"], claims["aud"]) == (issuer, f"{holdfast}/mcp")


@pytest.mark.capability(
    OIDC_PROVIDER, "one confidential application, through Holdfast's sign-in (Python SDK)"
)
async def test_a_client_signs_in_through_the_confidential_application(
    proxy: str, issuer: str, hub_token: str
) -> None:
    """It registers here, its tokens are of the oidc-provider, and it never sees the secret."""
    memory = await launch_and_outlive(proxy, hub_token)

    assert memory.client is not None
    assert memory.tokens is not None
    assert SECRET not in memory.client.model_dump_json() + memory.tokens.model_dump_json()
    _, claims = read_jwt(memory.tokens.access_token)
    assert (claims["iss"], claims["client_id"]) == (issuer, "holdfast")


@seeds_only
@pytest.mark.parametrize("kind", mark_kinds("registration, launch and refresh"))
async def test_a_typescript_client_registers(
    holdfast: str, hub_token: str, javascript_folder: Path, kind: str
) -> None:
    await run_typescript(kind, holdfast, hub_token, javascript_folder)


@seeds_only
@pytest.mark.parametrize(
    "kind", mark_kinds("one confidential application, through Holdfast's sign-in")
)
async def test_a_typescript_client_signs_in_through_the_confidential_application(
    proxy: str, hub_token: str, javascript_folder: Path, kind: str
) -> None:
    await run_typescript(kind, proxy, hub_token, javascript_folder)


async def run_typescript(kind: str, url: str, hub_token: str, folder: Path) -> None:
    """Sign in, launch, and go on until the token has been replaced."""
    command = ["node", "sign_in.mjs", kind, f"{url}/mcp?login", ""]
    environment = {"HUB_TOKEN": hub_token}
    done = await anyio.to_thread.run_sync(node_packages.run_node, command, folder, environment)
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert report["job"]["job_id"].startswith("job_")
    assert report["refreshed"]
    assert len(report["asked"]) == 1
