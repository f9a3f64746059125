"""What a run with a real system shows: one line for each system and capability.

A test has the marker `capability(SYSTEM, "what it shows")`. Its line is ● if it passes, or the
reason that it gives with the fixture `limits`: what the other system cannot do.
"""

import json
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.interop import node_packages, python_environments
from tests.interop.locked_versions import read_locked_version

MARKER: Final = "capability"
SECTION: Final = "seeds"
SHOWN: Final = "●"


@dataclass(frozen=True, slots=True)
class System:
    """A system of another maker, with the package that is run."""

    seed: str
    """Its number in the comparison, A1 to A5."""
    name: str
    package: str
    lock: Path
    folder: str = ""
    """Of the package in the lock file of npm, where that is not its name."""

    @property
    def version(self) -> str:
        """Return the version of the package that is locked."""
        return read_locked_version(self.lock, self.folder or self.package)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen of one capability."""

    system: System
    capability: str
    outcome: str
    """● or the reason why not."""

    @property
    def row(self) -> str:
        """Return the line of the page."""
        package = f"`{self.system.package}` {self.system.version}"
        cells = (self.system.seed, self.system.name, package, self.capability, self.outcome)
        return f"| {' | '.join(cells)} |"


AUTHGENT: Final = System(
    "A3",
    "external authorization server",
    "authgent-server",
    python_environments.lock_path("authgent"),
)
_NODE_LOCK: Final = node_packages.JAVASCRIPT_FOLDER / "package-lock.json"
OIDC_PROVIDER: Final = System("A5", "OpenID Connect server", "oidc-provider", _NODE_LOCK)


REASONS: Final = pytest.StashKey[list[str]]()
FINDINGS: Final = pytest.StashKey[list[Finding]]()
FASTMCP: Final = System("A3", "FastMCP", "fastmcp", python_environments.lock_path("fastmcp4"))
GRADIO: Final = System("A4", "Gradio", "gradio", python_environments.lock_path("gradio"))
NOT_RUN: Final = (
    "| A1 | fast-agent | `fast-agent-mcp` | each | above, in a Debian of its own |",
    "| A2 | the official server | `@llmindset/hf-mcp-server` | each | it needs huggingface.co |",
    "| A5 | FastAPI-MCP | `fastapi-mcp` 0.4.0 | each | it does not start with the MCP SDK 2 |",
)
"""Lines of systems that are not run, with the reason."""


def python_sdk(lock: str) -> System:
    """Return an older Python SDK, by the name of its lock."""
    return System("A5", "Python SDK of 2025", "mcp", python_environments.lock_path(lock))


def npm_system(name: str, folder: str) -> System:
    """Return an npm package, by its folder."""
    package = "@modelcontextprotocol/sdk" if folder.startswith("sdk-") else "mcp-remote"
    return System("A5", name, package, _NODE_LOCK, folder)


def read_finding(item: Any) -> Finding | None:
    """Return what a passed test has shown; None if it has no marker."""
    marker = item.get_closest_marker(MARKER)
    if marker is None:
        return None
    system, capability = marker.args
    return Finding(system, capability, "; ".join(item.stash.get(REASONS, [])) or SHOWN)


def read_jwt(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and the claims of a token, which is not verified."""
    header, claims, _ = token.split(".")
    return json.loads(urlsafe_b64decode(f"{header}==")), json.loads(
        urlsafe_b64decode(f"{claims}==")
    )
