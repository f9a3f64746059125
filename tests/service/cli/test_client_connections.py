"""Configurations of clients in use: what each says is used by a real client of a real service."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import anyio.to_thread
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from ruamel.yaml import YAML

from service.cli.options import COMMAND
from service.cli.stdio.installation import find_program
from service.web.client_config import (
    Connection,
    Program,
    build_client_configs,
    build_local_config,
)
from tests.interop.hosts import PACKAGES
from tests.support.mcp.tool_count import TOOL_COUNT
from tests.support.paths import DOCS, REPOSITORY
from tests.support.polling import HTTP_TIMEOUT_SECONDS
from tests.support.stdio import connect_stdio
from tests.support.subjects import ADA_TOKEN

PAGE: Final = (DOCS / "clients.md").read_text(encoding="utf-8")
SHOWN_URL: Final = "https://holdfast.example"

Address = tuple[str, dict[str, str]]
"""The URL and the headers that a client sends its requests with."""


def read_options(words: list[str], url_place: int) -> Address:
    """Read a command line: the URL at its place, and what follows each `--header`."""
    lines = [words[place + 1] for place, word in enumerate(words) if word == "--header"]
    headers = dict(re.split(r":\s*", line, maxsplit=1) for line in lines)
    return words[url_place], headers


def expand(headers: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """Replace `${NAME}`, as mcp-remote does."""
    return {
        name: re.sub(r"\$\{(\w+)\}", lambda match: variables[match[1]], value)
        for name, value in headers.items()
    }


def read_bridge(server: Mapping[str, Any]) -> Address:
    """Read what a program is started with."""
    assert (server["command"], server["args"][:2]) == ("npx", ["-y", "mcp-remote"])
    url, headers = read_options(server["args"], 2)
    return url, expand(headers, server.get("env", {}))


def read_bridge_command(texts: list[str]) -> Address:
    words = shlex.split(texts[0])
    assert words[0] == "env"
    name, value = words[1].split("=", 1)
    return read_bridge({"command": words[2], "args": words[3:], "env": {name: value}})


def read_json(servers_key: str, url_key: str) -> Callable[[list[str]], Address]:
    def read(texts: list[str]) -> Address:
        server = json.loads(texts[0])[servers_key]["holdfast"]
        return server[url_key], server["headers"]

    return read


def read_codex(texts: list[str]) -> Address:
    server = tomllib.loads(texts[0])["mcp_servers"]["holdfast"]
    command, assignment = shlex.split(texts[1])
    variable, token = assignment.split("=", 1)
    assert (command, variable) == ("export", server["bearer_token_env_var"])
    return server["url"], {"Authorization": f"Bearer {token}"}


def read_fast_agent(texts: list[str]) -> Address:
    parser: Any = YAML(typ="safe")
    server = parser.load(texts[0])["mcp"]["servers"]["holdfast"]
    assert server["transport"] == "http"
    return server["url"], server["headers"]


READERS: Final[dict[str, Callable[[list[str]], Address]]] = {
    "Claude Code": lambda texts: read_options(shlex.split(texts[0]), 6),
    "Claude Desktop": lambda texts: read_bridge(json.loads(texts[0])["mcpServers"]["holdfast"]),
    "Cursor": read_json("mcpServers", "url"),
    "VS Code": read_json("servers", "url"),
    "Codex": read_codex,
    "Gemini CLI": read_json("mcpServers", "httpUrl"),
    "fast-agent": read_fast_agent,
    "mcp-remote": read_bridge_command,
}
"""How each client reads its configuration; ChatGPT has only a URL, and curl is run."""


def config_texts(connection: Connection, client: str) -> list[str]:
    return [config.text for config in build_client_configs(connection) if config.client == client]


@pytest.mark.parametrize("client", list(READERS))
async def test_what_a_configuration_says_connects(service_url: str, client: str) -> None:
    """`build_client_configs` in the client's own format, and then a handshake and the tools."""
    url, headers = READERS[client](config_texts(Connection(service_url, ADA_TOKEN), client))

    async with (
        httpx2.AsyncClient(headers=headers, timeout=HTTP_TIMEOUT_SECONDS) as http,
        Client(streamable_http_client(url, http_client=http)) as connected,
    ):
        tools = (await connected.list_tools()).tools
        account = await connected.call_tool("whoami", {})

    assert len(tools) == TOOL_COUNT
    assert account.structured_content is not None
    assert account.structured_content["name"] == "ada"


async def test_the_program_of_a_configuration_connects(service_url: str, tmp_path: Path) -> None:
    """What `build_client_configs` says of `holdfast stdio`, started as Claude Desktop does."""
    program = Program((sys.executable, "-m", "service"), {"PYTHONPATH": str(REPOSITORY)})
    connection = Connection(service_url, ADA_TOKEN)
    [text] = [
        config.text
        for config in build_client_configs(connection, program)
        if config.client == "holdfast stdio"
    ]
    server = json.loads(text)["mcpServers"]["holdfast"]

    async with connect_stdio(
        server["args"],
        log=tmp_path / "stdio.log",
        command=[server["command"]],
        environment=server["env"],
    ) as client:
        tools = (await client.list_tools()).tools
        account = await client.call_tool("whoami", {})

    assert len(tools) == TOOL_COUNT
    assert account.structured_content is not None
    assert account.structured_content["name"] == "ada"
    assert ADA_TOKEN not in " ".join([server["command"], *server["args"]])


def test_a_configuration_runs_this_very_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client starts it in a folder of its own, and knows no path to it."""
    monkeypatch.setattr(sys, "argv", ["/opt/holdfast/bin/holdfast", "connect"])
    installed = find_program()
    monkeypatch.setattr(sys, "argv", [str(REPOSITORY / "service" / "__main__.py"), "connect"])
    cloned = find_program()
    server = json.loads(build_local_config(Path(".holdfast"), cloned).text)["mcpServers"]

    assert cloned.environment == {"PYTHONPATH": str(REPOSITORY)}
    assert cloned.words == (sys.executable, "-m", "service")
    assert installed.words[0].endswith("holdfast" if COMMAND == "holdfast" else sys.executable)
    assert server["holdfast"]["args"][-2:] == ["--data", str(Path(".holdfast").absolute())]


@pytest.mark.parametrize("token", [ADA_TOKEN, None], ids=["token", "nobody"])
async def test_the_command_of_curl_lists_the_tools(service_url: str, token: str | None) -> None:
    """As it stands, in a shell."""
    [command] = config_texts(Connection(service_url, token), "curl")

    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            ["/bin/sh", "-c", command],
            capture_output=True,
            text=True,
            timeout=HTTP_TIMEOUT_SECONDS,
            check=False,
        )
    )

    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["result"]["tools"]) == TOOL_COUNT


def test_a_bridge_with_an_application_has_a_fixed_port() -> None:
    """The authorization server has to know the redirect address beforehand."""
    *_, text = config_texts(Connection(SHOWN_URL, None), "mcp-remote")
    words = shlex.split(text)

    assert words[:3] == ["npx", "-y", "mcp-remote"]
    assert words[3:5] == [f"{SHOWN_URL}/mcp?login", "8080"]
    assert json.loads(words[words.index("--static-oauth-client-info") + 1]).keys() == {"client_id"}
    assert "http://localhost:8080/oauth/callback" in PAGE


@pytest.mark.parametrize("token", ["hf_YOUR_TOKEN", None], ids=["token", "sign-in"])
def test_the_page_shows_what_the_command_prints(token: str | None) -> None:
    """`docs/clients.md` is copied from; what was written by hand would grow old."""
    missing = [
        config.client
        for config in build_client_configs(Connection(SHOWN_URL, token))
        if f"\n{config.text}\n```" not in PAGE and not (config.client == "ChatGPT" and token)
    ]

    assert missing == []
    assert f"\n{build_local_config(Path('/home/ada/holdfast-data')).text}\n```" in PAGE


def test_the_page_names_the_versions_that_are_locked() -> None:
    """What `python3 -m tests.interop.hosts` installs is what the page says was run."""
    assert [name for name, version in PACKAGES.items() if f"`{name}` {version}" not in PAGE] == []
