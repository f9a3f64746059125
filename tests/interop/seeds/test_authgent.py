"""Authgent as the authorization server of clients that begin with nothing but a URL.

It is set up as in compose.yaml: keys of ES256, and open registration. Its tokens live for seconds
here and not for five minutes.
"""

import json
import os
import socket
import subprocess
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from service.local.hub_emulator.users import LocalTokenKind, load_users
from service.local.ports import find_free_port
from service.local.stack import Stack
from tests.interop import node_packages, python_environments
from tests.interop.seeds.capabilities import AUTHGENT, read_jwt
from tests.interop.seeds.compose_file import read_compose
from tests.interop.seeds.conftest import RunService, run_server, seeds_only
from tests.support.oauth.mcp_client_auth import (
    ConsentingBrowser,
    MemoryTokenStorage,
    make_oauth_provider,
)
from tests.support.polling import HTTP_TIMEOUT_SECONDS, eventually

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(240)]

TOKEN_LIFETIME_SECONDS = 6
SETTINGS = {
    "HOLDFAST_AUTH": "jwt",
    "HOLDFAST_JWT_LEEWAY": "3s",
    "HOLDFAST_JWT_SCOPES": "jobs=mcp:write,inference-api=mcp:write",
    "HOLDFAST_REQUIRED_SCOPES": "mcp:read",
}
LAUNCH_ARGUMENTS: dict[str, Any] = {"image": "python:3.12", "command": ["echo", "seen"]}


@pytest.fixture(scope="module")
def authgent(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The issuer of an Authgent at an address of this machine."""
    with run_authgent("127.0.0.1", tmp_path_factory.mktemp("authgent")) as issuer:
        yield issuer


@pytest.fixture(scope="module")
def holdfast(authgent: str, run_service: RunService) -> Generator[str]:
    """The URL of a service that believes the tokens of this Authgent."""
    with run_service(**SETTINGS, HOLDFAST_JWT_ISSUER=authgent) as url:
        yield url


@contextmanager
def run_authgent(host: str, folder: Path) -> Generator[str]:
    """Run an Authgent on this machine under a name; yield its issuer."""
    port = find_free_port()
    issuer = f"http://{host}:{port}"
    settings = {
        **read_compose("--profile", "authgent")["authgent"]["environment"],
        "AUTHGENT_SECRET_KEY": "0" * 64,
        "AUTHGENT_SERVER_URL": issuer,
        "AUTHGENT_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/authgent.db",
        "AUTHGENT_ACCESS_TOKEN_TTL": str(TOKEN_LIFETIME_SECONDS),
        "AUTHGENT_REGISTER_RATE_LIMIT": "1000",
        "AUTHGENT_TOKEN_RATE_LIMIT": "1000",
    }
    command = (program(), "run", "--host", "127.0.0.1", "--port", str(port))
    environment = os.environ | settings
    with run_server(
        "Authgent", command, environment, folder / "log", f"{issuer}/health", folder=folder
    ):
        yield issuer


def program() -> Path:
    locked = python_environments.lock_path("authgent")
    return Path(python_environments.install_interpreter(locked)).with_name("authgent-server")


@asynccontextmanager
async def sign_in(
    holdfast: str, hub_token: str, *, grant: str | None = None
) -> AsyncGenerator[tuple[Client, ConsentingBrowser, MemoryTokenStorage]]:
    """Connect the Python client, which is sent to sign in."""
    headers = {"X-HF-Authorization": f"Bearer {hub_token}"}
    url = f"{holdfast}/mcp?login"
    async with httpx2.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS) as person:
        browser, memory = ConsentingBrowser(person, grant), MemoryTokenStorage()
        provider = make_oauth_provider(url, browser, memory)
        async with (
            httpx2.AsyncClient(
                auth=provider, headers=headers, timeout=HTTP_TIMEOUT_SECONDS
            ) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            yield client, browser, memory


@pytest.mark.capability(AUTHGENT, "sign-in from nothing, launch and result (Python SDK)")
async def test_the_python_client_signs_in_from_nothing_and_launches(
    holdfast: str, authgent: str, hub_token: str
) -> None:
    """It finds the server, registers, lets its person agree, and is let in with an ES256 token."""
    async with sign_in(holdfast, hub_token) as (client, browser, memory):
        who = await client.call_tool("whoami", {})
        launched = await client.call_tool("launch_job", LAUNCH_ARGUMENTS)
        assert launched.structured_content is not None, launched.content
        handle = launched.structured_content["job_id"]
        await client.call_tool("wait_for_jobs", {"job_ids": [handle], "until": "terminal"})
        result = await client.call_tool("job_result", {"job_id": handle})

    assert who.structured_content is not None
    assert who.structured_content["name"] == "alice"
    assert who.structured_content["sign_in"]["issuer"] == authgent
    assert result.structured_content is not None
    assert result.structured_content["exit_code"] == 0
    assert memory.tokens is not None
    header, claims = read_jwt(memory.tokens.access_token)
    assert header["alg"] == "ES256"
    assert (claims["iss"], claims["aud"]) == (authgent, f"{holdfast}/mcp")
    assert str(browser.visited_urls[0]).startswith(f"{authgent}/authorize")


@pytest.mark.capability(AUTHGENT, "access tokens expire and are refreshed without the person")
async def test_the_python_client_outlives_its_token(holdfast: str, hub_token: str) -> None:
    """The old token is refused as expired, with what to do; nobody has to sign in again."""
    async with sign_in(holdfast, hub_token) as (client, browser, memory):
        first = memory.tokens
        assert first is not None

        async def is_refreshed() -> bool:
            # When it meets a 401 just as its token expires, it asks the person again (mcp 2.3.0).
            tokens, visits = memory.tokens, len(browser.visited_urls)
            answer = await client.call_tool("whoami", {})
            replaced = memory.tokens is not tokens and len(browser.visited_urls) == visits
            return replaced and not answer.is_error

        assert await eventually(is_refreshed, bool)
        refused = await eventually(lambda: post_whoami(holdfast, first.access_token), is_refused)

    error = refused.json()["error"]
    assert error["data"]["holdfast/error"]["code"] == "token_expired"
    assert "NTP" in error["message"]


async def post_whoami(holdfast: str, token: str) -> httpx2.Response:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "whoami"}}
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/json, text/event-stream",
    }
    async with httpx2.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS, headers=headers) as http:
        return await http.post(f"{holdfast}/mcp", json=call)


def is_refused(answer: httpx2.Response) -> bool:
    return answer.status_code == HTTPStatus.UNAUTHORIZED


@pytest.mark.capability(AUTHGENT, "`mcp:read` reads; a launch asks the person for `mcp:write`")
async def test_the_scopes_of_the_server_decide_what_a_token_may_do(
    holdfast: str, hub_token: str
) -> None:
    """Tools that a further sign-in would allow stay listed; the launch starts that sign-in."""
    async with sign_in(holdfast, hub_token, grant="mcp:read") as (client, browser, memory):
        who = await client.call_tool("whoami", {})
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert memory.tokens is not None
        granted = memory.tokens.scope
        launched = await client.call_tool("launch_job", LAUNCH_ARGUMENTS)

    assert who.structured_content is not None
    assert who.structured_content["missing_scopes"] == ["inference-api", "jobs"]
    assert granted == "mcp:read"
    assert "launch_job" in tools
    assert not launched.is_error
    first, second, *_ = browser.visited_urls
    assert {"mcp:read", "mcp:write"} <= set(first.params["scope"].split())
    assert "mcp:write" in second.params["scope"].split()


@pytest.mark.capability(AUTHGENT, "tools that neither token allows are not listed")
async def test_what_no_sign_in_could_allow_is_not_listed(holdfast: str, stack: Stack) -> None:
    """The token of Hugging Face only reads, and cannot sign in for more."""
    users = load_users(stack.folder / "hub")
    (reader, *_) = [user.token for user in users if user.kind is LocalTokenKind.READ]
    async with sign_in(holdfast, reader) as (client, _, _):
        tools = {tool.name for tool in (await client.list_tools()).tools}

    assert "whoami" in tools
    assert not {"launch_job", "launch_inference", "cancel_job"} & tools


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind,
            marks=pytest.mark.capability(
                AUTHGENT, f"sign-in, launch and refresh, client set up before ({name})"
            ),
        )
        for kind, name in (("v1", "TypeScript SDK 1"), ("v2", "TypeScript SDK 2"))
    ],
)
async def test_a_typescript_client_that_is_known_signs_in_and_launches(
    holdfast: str, authgent: str, hub_token: str, javascript_folder: Path, kind: str
) -> None:
    client = await register_client(authgent)

    done = await run_typescript(kind, holdfast, hub_token, javascript_folder, **client)

    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert report["job"]["job_id"].startswith("job_")
    assert report["refreshed"]
    assert len(report["asked"]) == 1


@seeds_only
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            kind, marks=pytest.mark.capability(AUTHGENT, f"registration by the client ({name})")
        )
        for kind, name in (("v1", "TypeScript SDK 1"), ("v2", "TypeScript SDK 2"))
    ],
)
async def test_a_typescript_client_cannot_read_the_registration(
    holdfast: str,
    hub_token: str,
    javascript_folder: Path,
    kind: str,
    limits: Callable[[str], None],
) -> None:
    """Authgent answers null where RFC 7591 has a URL or nothing, and these clients take neither."""
    done = await run_typescript(kind, holdfast, hub_token, javascript_folder)

    assert done.returncode != 0
    assert '"client_uri"' in done.stderr
    assert "received null" in done.stderr
    limits("Authgent answers a registration with `client_uri: null`, which this client refuses")


async def register_client(authgent: str) -> dict[str, str]:
    """Set up a client by hand, as the operator of an Authgent can."""
    about = {
        "client_name": "holdfast-interop",
        "redirect_uris": ["http://127.0.0.1:8912/callback"],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "none",
    }
    async with httpx2.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        answer = await http.post(f"{authgent}/register", json=about)
    return {"CLIENT_ID": answer.raise_for_status().json()["client_id"]}


async def run_typescript(
    kind: str, holdfast: str, hub_token: str, folder: Path, **environment: str
) -> "subprocess.CompletedProcess[str]":
    command = ["node", "sign_in.mjs", kind, f"{holdfast}/mcp?login", ""]
    environment["HUB_TOKEN"] = hub_token
    return await anyio.to_thread.run_sync(node_packages.run_node, command, folder, environment)


@seeds_only
@pytest.mark.capability(AUTHGENT, "Authgent's own check of a server, `authgent-server lint`")
async def test_the_check_of_authgent_finds_nothing(holdfast: str) -> None:
    """It reads what Holdfast says about the sign-in, as a client does."""
    command = [str(program()), "lint", holdfast, "--format", "json"]
    done = await anyio.run_process(command, check=False)

    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout) == []


@seeds_only
@pytest.mark.capability(AUTHGENT, "an issuer with `http://` and a name, as in a compose file")
async def test_an_issuer_may_be_plain_and_named(
    run_service: RunService, hub_token: str, tmp_path: Path, javascript_folder: Path
) -> None:
    """As the name of a container. The newer TypeScript client sends no code to such an address."""
    host = socket.gethostname()
    if not socket.gethostbyname(host).startswith("127."):
        pytest.skip("the name of this machine is no address of its own loopback")
    with (
        run_authgent(host, tmp_path) as issuer,
        run_service(
            **SETTINGS, HOLDFAST_JWT_ISSUER=issuer, HOLDFAST_JWT_PLAIN_HOSTS=host
        ) as holdfast,
    ):
        async with sign_in(holdfast, hub_token) as (client, _, _):
            launched = await client.call_tool("launch_job", LAUNCH_ARGUMENTS)
        known = await register_client(issuer)
        refused = await run_typescript("v2", holdfast, hub_token, javascript_folder, **known)

    assert not launched.is_error
    assert "Refusing to send credentials to non-https token endpoint" in refused.stderr
