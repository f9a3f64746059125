"""Configuration that tells an MCP client where the service is, in the form each client takes.

The forms are those that the clients documented in November 2026.
"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

_TOKEN_VARIABLE: Final = "HOLDFAST_TOKEN"  # noqa: S105  # the name of a variable
_HEADER_VARIABLE: Final = "HOLDFAST_AUTHORIZATION"
_BRIDGE_PORT: Final = 8080
"""Where mcp-remote waits for the browser, if an authorization server has to know it beforehand."""
_APPLICATION_ID: Final = "YOUR_CLIENT_ID"


@dataclass(frozen=True, slots=True)
class Connection:
    """The URL of a service and the token to call it with; without a token the client signs in."""

    url: str
    token: str | None
    toolsets: tuple[str, ...] = ()
    """The toolsets that the client chooses; none: it has all tools."""
    read_only: bool = False
    """Whether it has only tools that read."""

    @property
    def endpoint(self) -> str:
        """The URL of the MCP endpoint; without a token it asks for a sign-in at once.

        Not every client can sign in later, at the first call that needs it.
        """
        return self._build_address("" if self.token else "login")

    @property
    def open_endpoint(self) -> str:
        """The URL of the MCP endpoint, which may be looked at without a sign-in."""
        return self._build_address("")

    def _build_address(self, option: str) -> str:
        path = "/mcp/readonly" if self.read_only else "/mcp"
        toolsets = f"toolsets={','.join(self.toolsets)}" if self.toolsets else ""
        query = "&".join(filter(None, (toolsets, option)))
        return f"{self.url.rstrip('/')}{path}{'?' if query else ''}{query}"

    @property
    def headers(self) -> dict[str, str]:
        """The headers that a request needs."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """The configuration of one client: the text to paste, and the place to paste it into."""

    client: str
    location: str
    text: str


@dataclass(frozen=True, slots=True)
class Program:
    """What a client starts to run a command of Holdfast, and with which variables."""

    words: tuple[str, ...] = ("holdfast",)
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    def build_server(self, *arguments: str, **environment: str) -> dict[str, Any]:
        """Describe `holdfast stdio` as the file of a client has it.

        Args:
            arguments: behind the command.
            environment: variables beside those of the program.
        """
        command, *words = self.words
        variables = {**self.environment, **environment}
        server = {"command": command, "args": [*words, "stdio", *arguments]}
        return server | ({"env": variables} if variables else {})


INSTALLED: Final = Program()
"""For whoever has installed the package, and has its program in the path of their clients."""


def build_client_configs(
    connection: Connection, program: Program = INSTALLED
) -> list[ClientConfig]:
    """Build the configuration of every client we know.

    Args:
        connection: the service.
        program: runs Holdfast on the machine of the client.
    """
    entry: dict[str, Any] = {"url": connection.endpoint}
    headers = {"headers": connection.headers} if connection.headers else {}
    return [
        ClientConfig("Claude Code", "in a terminal", _build_claude_code_command(connection)),
        ClientConfig(
            "Claude Desktop",
            "claude_desktop_config.json (Settings > Developer > Edit Config; needs Node.js)",
            _format_json({"mcpServers": {"holdfast": _build_stdio_bridge(connection)}}),
        ),
        *_build_own_bridge(connection, program),
        ClientConfig(
            "Cursor",
            "~/.cursor/mcp.json",
            _format_json({"mcpServers": {"holdfast": entry | headers}}),
        ),
        ClientConfig(
            "VS Code",
            ".vscode/mcp.json",
            _format_json({"servers": {"holdfast": {"type": "http"} | entry | headers}}),
        ),
        *_build_codex_configs(connection),
        ClientConfig(
            "Gemini CLI",
            "~/.gemini/settings.json",
            # There `url` is a server of the old SSE transport.
            _format_json({"mcpServers": {"holdfast": {"httpUrl": connection.endpoint} | headers}}),
        ),
        _build_chatgpt_config(connection),
        ClientConfig("fast-agent", "fastagent.config.yaml", _build_fast_agent_file(connection)),
        *_build_mcp_remote_commands(connection),
        ClientConfig("curl", "in a terminal", _build_curl_command(connection)),
    ]


def build_local_config(data_dir: Path, program: Program = INSTALLED) -> ClientConfig:
    """Build the configuration of a client that starts the whole local stack.

    Args:
        data_dir: its data folder.
        program: runs Holdfast on this machine.
    """
    server = program.build_server("--local", "--data", str(data_dir.absolute()))
    return ClientConfig(
        "holdfast stdio",
        "claude_desktop_config.json, to run everything on this computer while the client runs",
        _format_json({"mcpServers": {"holdfast": server}}),
    )


def _build_claude_code_command(connection: Connection) -> str:
    words = ["claude", "mcp", "add", "--transport", "http", "holdfast", connection.endpoint]
    for name, value in connection.headers.items():
        words += ["--header", f"{name}: {value}"]
    return shlex.join(words)


def _build_stdio_bridge(connection: Connection) -> dict[str, Any]:
    """Describe the program that Claude Desktop starts: its file knows no URLs.

    The header's value is in a variable, because Claude Desktop on Windows splits an argument at its
    space. mcp-remote replaces the variable.
    """
    arguments = ["-y", "mcp-remote", connection.endpoint]
    if connection.endpoint.startswith("http://"):
        arguments.append("--allow-http")
    if not connection.headers:
        return {"command": "npx", "args": arguments}
    arguments += ["--header", f"Authorization:${{{_HEADER_VARIABLE}}}"]
    return {
        "command": "npx",
        "args": arguments,
        "env": {_HEADER_VARIABLE: connection.headers["Authorization"]},
    }


def _build_own_bridge(connection: Connection, program: Program) -> list[ClientConfig]:
    """Build the file with our own bridge, which needs a token: it opens no browser."""
    if connection.token is None:
        return []
    server = program.build_server(connection.url.rstrip("/"), **{_TOKEN_VARIABLE: connection.token})
    return [
        ClientConfig(
            "holdfast stdio",
            "claude_desktop_config.json, where Holdfast is installed (needs no Node.js)",
            _format_json({"mcpServers": {"holdfast": server}}),
        )
    ]


def _build_mcp_remote_commands(connection: Connection) -> list[ClientConfig]:
    """Build the commands of the bridge, for any client that only starts programs."""
    bridge = _build_stdio_bridge(connection)
    command = shlex.join([bridge["command"], *bridge["args"]])
    if connection.token is not None:
        variables = shlex.join(f"{name}={value}" for name, value in bridge["env"].items())
        return [ClientConfig("mcp-remote", "the command of a server", f"env {variables} {command}")]
    # Where nobody can register a client: an application of the operator.
    application = json.dumps({"client_id": _APPLICATION_ID})
    static = shlex.join(
        [
            *(bridge["command"], *bridge["args"][:3], str(_BRIDGE_PORT), *bridge["args"][3:]),
            *("--static-oauth-client-info", application),
        ]
    )
    return [
        ClientConfig("mcp-remote", "the command of a server", command),
        ClientConfig(
            "mcp-remote",
            "with an application of yours, whose redirect address is "
            f"http://localhost:{_BRIDGE_PORT}/oauth/callback",
            static,
        ),
    ]


def _build_fast_agent_file(connection: Connection) -> str:
    """Build a file in YAML, of which a string of JSON is a part."""
    lines = [
        "mcp:",
        "  servers:",
        "    holdfast:",
        "      transport: http",
        f"      url: {json.dumps(connection.endpoint)}",
    ]
    if connection.headers:
        lines.append("      headers:")
    lines += [f"        {name}: {json.dumps(value)}" for name, value in connection.headers.items()]
    return "\n".join(lines)


def _build_curl_command(connection: Connection) -> str:
    """Build a command that lists the tools; without a token that needs nobody."""
    headers = {
        **connection.headers,
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }
    words = ["curl", "--silent", "--show-error", connection.open_endpoint]
    for name, value in headers.items():
        words += ["--header", f"{name}: {value}"]
    return shlex.join([*words, "--data", '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'])


def _build_codex_configs(connection: Connection) -> list[ClientConfig]:
    """Build the table of Codex, and how it gets the token, which the file cannot contain."""
    # A string of JSON is a string of TOML too.
    table = f"[mcp_servers.holdfast]\nurl = {json.dumps(connection.endpoint)}"
    if connection.token is None:
        return [
            ClientConfig("Codex", "~/.codex/config.toml", table),
            ClientConfig("Codex", "then, in a terminal", "codex mcp login holdfast"),
        ]
    return [
        ClientConfig(
            "Codex",
            "~/.codex/config.toml",
            f"{table}\nbearer_token_env_var = {json.dumps(_TOKEN_VARIABLE)}",
        ),
        ClientConfig(
            "Codex",
            "then, in the shell that starts it",
            f"export {_TOKEN_VARIABLE}={shlex.quote(connection.token)}",
        ),
    ]


def _build_chatgpt_config(connection: Connection) -> ClientConfig:
    if not connection.endpoint.startswith("https://"):
        return ClientConfig(
            "ChatGPT",
            "not with this URL",
            f"ChatGPT calls from OpenAI's servers and needs a public https:// URL; it cannot reach "
            f"{connection.endpoint}.",
        )
    return ClientConfig(
        "ChatGPT",
        "as the URL of a new app in developer mode (Settings > Apps, once called Connectors), "
        "with OAuth",
        connection.endpoint,
    )


def _format_json(value: object) -> str:
    return json.dumps(value, indent=2)
