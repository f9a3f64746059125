"""Clients of 2025: they sign in and launch, or are told in words what their sign-in lacks.

None of them can ask for more scopes later, and most ask for none at all.
"""

import json
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import TextContent

from service.local.ports import find_free_port
from service.local.stack import Stack
from tests.interop import node_packages, python_environments
from tests.interop.seeds.capabilities import System, npm_system, python_sdk
from tests.interop.seeds.conftest import seeds_only
from tests.support.oauth.consent_browser import follow_sign_in
from tests.support.polling import HTTP_TIMEOUT_SECONDS, eventually

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(240)]

ALL_SCOPES = "openid profile jobs inference-api"
LAUNCH_ARGUMENTS: dict[str, Any] = {"image": "python:3.12", "command": ["true"]}
PYTHON_SDKS = {"mcp1_9": "2025-03-26", "mcp1_12": "2025-06-18", "mcp1_17": "2025-06-18"}
NO_SCOPE = "it asks for no scope, so the launch is refused with the name of the scope"


def mark_each(what: str, *systems: tuple[str, System]) -> Any:
    return [
        pytest.param(name, marks=pytest.mark.capability(system, what), id=name)
        for name, system in systems
    ]


@seeds_only
@pytest.mark.parametrize(
    "lock", mark_each("launch with a token", *((lock, python_sdk(lock)) for lock in PYTHON_SDKS))
)
async def test_an_older_python_client_launches_with_a_token(
    stack: Stack, hub_token: str, lock: str
) -> None:
    """It agrees on the newest revision that it knows, and sees every tool."""
    report = await run_python(lock, f"{stack.url}/mcp", "token", HOLDFAST_TOKEN=hub_token)

    assert report["protocol"] == PYTHON_SDKS[lock]
    assert "launch_job" in report["tools"]
    assert not report["failed"], report["text"]
    assert "job_" in report["text"]


@seeds_only
@pytest.mark.parametrize(
    "lock", mark_each("sign-in and launch", *((lock, python_sdk(lock)) for lock in PYTHON_SDKS))
)
async def test_an_older_python_client_signs_in(
    stack: Stack, lock: str, limits: Callable[[str], None]
) -> None:
    """It is let in with what it asked for; the session goes on after the refusal."""
    report = await run_python(lock, f"{stack.url}/mcp?login", "oauth")

    assert report["granted"] is not None
    assert "alice" in report["who"]
    if report["failed"]:
        assert "jobs" not in report["granted"].split()
        assert "`jobs`" in report["text"] or "scope jobs" in report["text"], report["text"]
        limits(NO_SCOPE)


async def run_python(lock: str, url: str, mode: str, **environment: str) -> dict[str, Any]:
    python = python_environments.install_interpreter(python_environments.lock_path(lock))
    script = str(python_environments.CLIENTS_FOLDER / "mcp_older.py")
    done = await anyio.run_process(
        [python, script, url, mode], env=node_packages.make_environment(environment), check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@seeds_only
@pytest.mark.parametrize(
    "package",
    mark_each(
        "sign-in and launch",
        *((name, npm_system("TypeScript SDK", name)) for name in ("sdk-1.12", "sdk-1.17")),
    ),
)
async def test_an_older_typescript_client_signs_in(
    stack: Stack, javascript_folder: Path, package: str, limits: Callable[[str], None]
) -> None:
    """As above."""
    command = ["node", "sign_in.mjs", package, f"{stack.url}/mcp?login", ""]
    done = await anyio.to_thread.run_sync(node_packages.run_node, command, javascript_folder)

    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert "jobs" not in report["granted"].split()
    assert "jobs" in report["refused"]
    limits(NO_SCOPE)


REMOTES = tuple(
    (folder, npm_system("mcp-remote", folder)) for folder in ("mcp-remote", "mcp-remote-old")
)


@seeds_only
@pytest.mark.parametrize("folder", mark_each("launch with a token", *REMOTES))
async def test_mcp_remote_passes_a_token(
    stack: Stack, hub_token: str, javascript_folder: Path, tmp_path: Path, folder: str
) -> None:
    """As `holdfast connect` configures it."""
    options = ("--header", "Authorization:${AUTH_HEADER}")
    environment = {"AUTH_HEADER": f"Bearer {hub_token}"}
    url = f"{stack.url}/mcp"
    async with open_remote(
        javascript_folder, tmp_path, folder, url, *options, **environment
    ) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        launched = await client.call_tool("launch_job", LAUNCH_ARGUMENTS)

    assert "launch_job" in tools
    assert not launched.is_error, launched.content


@seeds_only
@pytest.mark.parametrize("folder", mark_each("sign-in and launch", *REMOTES))
async def test_mcp_remote_signs_in(
    stack: Stack,
    javascript_folder: Path,
    tmp_path: Path,
    folder: str,
    limits: Callable[[str], None],
) -> None:
    """The older one asks for no scope and gets the refusal as the answer of the tool."""
    url = f"{stack.url}/mcp?login"
    async with open_remote(javascript_folder, tmp_path, folder, url) as client:
        launched = await client.call_tool("launch_job", LAUNCH_ARGUMENTS)

    if launched.is_error:
        assert folder == "mcp-remote-old", launched.content
        assert isinstance(launched.content[0], TextContent)
        assert "jobs" in launched.content[0].text
        limits(NO_SCOPE)


@seeds_only
@pytest.mark.parametrize(
    "folder", mark_each("sign-in and launch, scopes named by the person", REMOTES[1])
)
async def test_an_older_mcp_remote_is_told_the_scopes(
    stack: Stack, javascript_folder: Path, tmp_path: Path, folder: str
) -> None:
    """The cure that docs/auth.md names."""
    url = f"{stack.url}/mcp?login"
    options = ("--static-oauth-client-metadata", json.dumps({"scope": ALL_SCOPES}))
    async with open_remote(javascript_folder, tmp_path, folder, url, *options) as client:
        launched = await client.call_tool("launch_job", LAUNCH_ARGUMENTS)

    assert not launched.is_error, launched.content


@asynccontextmanager
async def open_remote(
    packages: Path, home: Path, folder: str, url: str, *options: str, **environment: str
) -> AsyncGenerator[Client]:
    """Start mcp-remote as a host does; whoever reads what it prints is the person, and agrees.

    No other program is in its PATH, so it opens no real browser.
    """
    program = packages / "node_modules" / folder / "dist" / "proxy.js"
    arguments = [str(program), url, str(find_free_port()), "--transport", "http-only", *options]
    parameters = StdioServerParameters(
        command=node_packages.find_program("node"),
        args=arguments,
        env={"PATH": str(home), "HOME": str(home), **environment},
    )
    printed = home / "stderr"
    async with anyio.create_task_group() as person:
        person.start_soon(agree_when_asked, printed)
        with printed.open("w", encoding="utf-8") as errors:
            async with Client(stdio_client(parameters, errlog=errors), mode="legacy") as client:
                yield client
        person.cancel_scope.cancel()


def find_address(printed: Path) -> str | None:
    text = printed.read_text(encoding="utf-8") if printed.exists() else ""
    address = re.search(r"^(http\S+/oauth/authorize\?\S+)$", text, re.MULTILINE)
    return None if address is None else address[1]


async def agree_when_asked(printed: Path) -> None:
    """Visit the address that mcp-remote prints, agree there, and bring the answer back."""

    address = await eventually(lambda: anyio.to_thread.run_sync(find_address, printed), bool)
    assert address is not None
    redirect_uri = httpx2.URL(address).params["redirect_uri"]
    async with httpx2.AsyncClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
        back = await follow_sign_in(http, await http.get(address), redirect_uri)
        # It prints the address before it listens for the answer.
        await eventually(lambda: reaches(http, back), bool)


async def reaches(http: httpx2.AsyncClient, url: httpx2.URL) -> bool:
    try:
        await http.get(url)
    except httpx2.ConnectError:
        return False
    return True
