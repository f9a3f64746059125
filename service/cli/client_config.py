"""How a client is told where we are: configuration to paste, for each client that needs its own."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Connection:
    """A service, and the token to reach it with; without one the client signs in by itself."""

    url: str
    token: str | None

    @property
    def endpoint(self) -> str:
        """Where MCP is spoken."""
        return f"{self.url.rstrip('/')}/mcp"

    @property
    def headers(self) -> dict[str, str]:
        """What a request needs besides."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """What to paste, and where."""

    client: str
    location: str
    text: str


def build_client_configs(connection: Connection) -> list[ClientConfig]:
    """Write the configuration of every client we know."""
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


def _format_json(value: object) -> str:
    return json.dumps(value, indent=2)
