"""Configuration that tells an MCP client where the service is, in the form each client takes."""

import json
from dataclasses import dataclass
from typing import Any

from rich.console import Console


@dataclass(frozen=True, slots=True)
class Connection:
    """The URL of a service and the token to call it with; without a token the client signs in."""

    url: str
    token: str | None

    @property
    def endpoint(self) -> str:
        """The URL of the MCP endpoint."""
        return f"{self.url.rstrip('/')}/mcp"

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


def build_client_configs(connection: Connection) -> list[ClientConfig]:
    """Build the configuration of every client we know."""
    flags = "".join(f' --header "{name}: {value}"' for name, value in connection.headers.items())
    entry: dict[str, Any] = {"url": connection.endpoint}
    if connection.headers:
        entry["headers"] = connection.headers
    return [
        ClientConfig(
            "Claude Code",
            "in a terminal",
            f"claude mcp add --transport http holdfast {connection.endpoint}{flags}",
        ),
        ClientConfig(
            "Cursor", "~/.cursor/mcp.json", _format_json({"mcpServers": {"holdfast": entry}})
        ),
        ClientConfig(
            "VS Code",
            ".vscode/mcp.json",
            _format_json({"servers": {"holdfast": {"type": "http", **entry}}}),
        ),
    ]


def print_client_configs(console: Console, connection: Connection) -> None:
    """Print for each client what to paste, and where."""
    for config in build_client_configs(connection):
        console.print(f"[bold]{config.client}[/], {config.location}:")
        # No wrapping: the text is there to be pasted.
        console.print(config.text, soft_wrap=True, highlight=False, markup=False)


def _format_json(value: object) -> str:
    return json.dumps(value, indent=2)
