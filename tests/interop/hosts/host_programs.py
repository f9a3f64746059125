"""Each program with the configuration that `build_client_configs` prints, and no account.

A program has a home of its own, so that it neither reads nor leaves anything in the person's.
"""

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from service.web.client_config import build_client_configs
from tests.interop import hosts, node_packages
from tests.support.mcp.tool_count import TOOL_COUNT
from tests.support.stack import McpCaller

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(900)]

INSTALL_TIMEOUT_SECONDS: Final = 600
RUN_TIMEOUT_SECONDS: Final = 300
QUIET: Final = {"DISABLE_AUTOUPDATER": "1", "DISABLE_TELEMETRY": "1", "NO_COLOR": "1"}


@pytest.fixture(scope="session")
def packages() -> Path:
    """Where the programs are; they are installed first, from the network."""
    names = ("package.json", "package-lock.json", ".npmrc")
    sources = {name: (hosts.FOLDER / name).read_bytes() for name in names}
    node = node_packages.find_program("node")
    npm = Path(node).parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
    with node_packages.cached_folder(*sources.values()) as (place, ready):
        if not ready:
            for name, content in sources.items():
                (place / name).write_bytes(content)
            done = subprocess.run(
                [node, str(npm), "ci", "--ignore-scripts", "--no-audit"],
                cwd=place,
                env=node_packages.make_environment(),
                capture_output=True,
                text=True,
                timeout=INSTALL_TIMEOUT_SECONDS,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-2000:]
    return place / "node_modules"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home, which is the working folder too."""
    return tmp_path


def config_texts(caller: McpCaller, client: str) -> list[str]:
    configs = build_client_configs(caller.connection)
    return [config.text for config in configs if config.client == client]


def run(
    script: Path,
    arguments: Sequence[str],
    home: Path,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Run a program of Node.js; return what it printed, and then its errors."""
    done = subprocess.run(
        [node_packages.find_program("node"), str(script), *arguments],
        cwd=home,
        env=node_packages.make_environment({"HOME": str(home), **QUIET, **(variables or {})}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def find_script(packages: Path, package: str, command: str) -> Path:
    """Return the script of a command of a package."""
    described = json.loads((packages / package / "package.json").read_text(encoding="utf-8"))
    scripts: str | dict[str, str] = described["bin"]
    script = scripts if isinstance(scripts, str) else scripts[command]
    return (packages / package / script).resolve()


def test_claude_code_connects(alice: McpCaller, packages: Path, home: Path) -> None:
    """By the command as it is printed; its health check is a handshake."""
    # What npm would put in the place of the command is written by a script, and none is run.
    claude = packages / "@anthropic-ai" / "claude-code" / "cli-wrapper.cjs"
    [command] = config_texts(alice, "Claude Code")
    program, *arguments = shlex.split(command)
    assert program == "claude"

    run(claude, arguments, home)
    listed = run(claude, ["mcp", "list"], home)

    assert f"holdfast: {alice.connection.endpoint} (HTTP)" in listed
    assert "Connected" in listed


def test_codex_lists_the_tools(alice: McpCaller, packages: Path, home: Path) -> None:
    """Its server for editors says what each MCP server has, before anybody signs in at OpenAI."""
    table, export = config_texts(alice, "Codex")
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text(table, encoding="utf-8")
    name, token = shlex.split(export)[1].split("=", 1)
    codex = find_script(packages, "@openai/codex", "codex")

    printed = run(codex, ["mcp", "get", "holdfast", "--json"], home)
    # Behind the object comes what it warns of.
    described, _ = json.JSONDecoder().raw_decode(printed)
    assert described["transport"]["url"] == alice.connection.endpoint
    assert described["transport"]["bearer_token_env_var"] == name

    [status] = ask_codex(codex, home, {name: token})
    assert status["name"] == "holdfast"
    assert len(status["tools"]) == TOOL_COUNT


def ask_codex(codex: Path, home: Path, variables: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what Codex says of its MCP servers."""
    about = {"name": "tests", "title": "tests", "version": "1"}
    messages: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": {"clientInfo": about}},
        {"method": "initialized"},
        {"id": 2, "method": "mcpServerStatus/list", "params": {}},
    ]
    with subprocess.Popen(
        [node_packages.find_program("node"), str(codex), "app-server"],
        cwd=home,
        env=node_packages.make_environment({"HOME": str(home), **QUIET, **variables}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.writelines(f"{json.dumps(message)}\n" for message in messages)
        process.stdin.flush()
        for line in process.stdout:
            answer: dict[str, Any] = json.loads(line)
            if answer.get("id") == 2:
                process.kill()
                servers: list[dict[str, Any]] = answer["result"]["data"]
                return servers
    pytest.fail("Codex ended before it answered")


def test_gemini_connects(alice: McpCaller, packages: Path, home: Path) -> None:
    """In a folder that it is told to trust."""
    [settings] = config_texts(alice, "Gemini CLI")
    (home / ".gemini").mkdir()
    (home / ".gemini" / "settings.json").write_text(settings, encoding="utf-8")
    gemini = find_script(packages, "@google/gemini-cli", "gemini")

    listed = run(gemini, ["mcp", "list"], home, {"GEMINI_CLI_TRUST_WORKSPACE": "true"})

    assert f"holdfast: {alice.connection.endpoint} (http) - Connected" in listed


async def test_what_claude_desktop_starts_lists_the_tools(
    alice: McpCaller, packages: Path, home: Path
) -> None:
    """The program in its file, without npx, which would ask the network for the newest."""
    [file] = config_texts(alice, "Claude Desktop")
    server = json.loads(file)["mcpServers"]["holdfast"]
    assert (server["command"], server["args"][:2]) == ("npx", ["-y", "mcp-remote"])
    parameters = StdioServerParameters(
        command=node_packages.find_program("node"),
        args=[str(find_script(packages, "mcp-remote", "mcp-remote")), *server["args"][2:]],
        env=node_packages.make_environment({"HOME": str(home), **QUIET, **server["env"]}),
        cwd=str(home),
    )

    async with Client(stdio_client(parameters)) as client:
        tools = (await client.list_tools()).tools

    assert len(tools) == TOOL_COUNT
