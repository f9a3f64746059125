"""The clients of other makers, each as a process of its own that makes the calls of a test."""

import json
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryFile
from threading import Timer
from typing import Any, Final, Protocol

from service.web.client_config import Connection
from tests.interop import node_packages, python_environments
from tests.interop.locked_versions import read_locked_version
from tests.support.paths import REPOSITORY

LEGACY_VERSION: Final = "2025-11-25"
MODERN_VERSION: Final = "2026-07-28"
_TOOL_FAILED: Final = 5
"""How the Inspector exits when a call was answered with an error."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a client was shown of an answer."""

    text: str
    failed: bool
    structured: dict[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def from_wire(cls, result: Mapping[str, Any]) -> "ToolResult":
        """Read a result as it was on the wire."""
        text = "\n".join(part["text"] for part in result["content"] if "text" in part)
        return cls(text, bool(result.get("isError")), result.get("structuredContent") or {})


class ConnectedClient(Protocol):
    """A client that is connected."""

    @property
    def version(self) -> str:
        """Return the version of the protocol that was agreed on."""
        ...

    @property
    def server(self) -> str:
        """Return what the server calls itself."""
        ...

    @property
    def tools(self) -> list[str]:
        """Return the names of the tools that were listed."""
        ...

    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Call a tool, and wait for the answer."""
        ...


OpenClient = Callable[[Connection, Path], AbstractContextManager[ConnectedClient]]


@dataclass(frozen=True, slots=True)
class ClientSpec:
    """A client, the package it is in, and the newest version of the protocol that it speaks."""

    name: str
    package: str
    lock: Path
    protocol_version: str
    open: OpenClient

    @property
    def version(self) -> str:
        """Return the version of the package that is locked."""
        return read_locked_version(self.lock, self.package)


class _ScriptClient:
    """A script that reads calls from its standard input, and writes results to its output."""

    def __init__(self, process: "subprocess.Popen[str]", errors: Any) -> None:
        self._process = process
        self._errors = errors
        self._shown = self._read()

    @property
    def version(self) -> str:
        return str(self._shown["version"])

    @property
    def server(self) -> str:
        return str(self._shown["server"])

    @property
    def tools(self) -> list[str]:
        return list(self._shown["tools"])

    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps({'name': tool, 'arguments': arguments})}\n")
        self._process.stdin.flush()
        return ToolResult.from_wire(self._read())

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        impatient = Timer(node_packages.TIMEOUT_SECONDS, self._process.kill)
        impatient.start()
        line = self._process.stdout.readline()
        impatient.cancel()
        if not line:
            self._process.wait(node_packages.TIMEOUT_SECONDS)
            self._errors.seek(0)
            raise AssertionError(self._errors.read())
        read: dict[str, Any] = json.loads(line)
        return read


@contextmanager
def _open_script(
    command: list[str], connection: Connection, folder: Path
) -> Generator[ConnectedClient]:
    with (
        TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            command,
            cwd=folder,
            env=node_packages.make_environment({"HOLDFAST_TOKEN": connection.token or ""}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield _ScriptClient(process, errors)
        finally:
            process.kill()


def _open_typescript(
    kind: str, connection: Connection, _: Path
) -> AbstractContextManager[ConnectedClient]:
    command = [node_packages.find_program("node"), "client.mjs", kind, connection.endpoint]
    return _open_script(command, connection, node_packages.install_packages())


def _open_python(
    script: str, mode: str, connection: Connection, home: Path
) -> AbstractContextManager[ConnectedClient]:
    interpreter = (
        sys.executable
        if script == "mcp2"
        else python_environments.install_interpreter(python_environments.lock_path(script))
    )
    program = str(python_environments.CLIENTS_FOLDER / f"{script}.py")
    return _open_script([interpreter, program, connection.endpoint, mode], connection, home)


class InspectorClient:
    """The Inspector's command line, one process for each call.

    Its home is the test's, so that it neither reads nor leaves anything in the person's.
    """

    def __init__(self, era: str, connection: Connection, home: Path) -> None:
        self._command = [
            "node",
            "node_modules/.bin/mcp-inspector",
            *("--cli", connection.endpoint, "--transport", "http", "--protocol-era", era),
            *("--format", "json", "-q", "--stored-auth-only"),
            *("--header", f"Authorization: Bearer {connection.token}", "--method"),
        ]
        self._home = {"HOME": str(home)}

    @cached_property
    def _greeting(self) -> dict[str, Any]:
        return self.call_method("initialize")

    @property
    def version(self) -> str:
        return str(self._greeting["protocolVersion"])

    @property
    def server(self) -> str:
        return str(self._greeting["serverInfo"]["name"])

    @property
    def tools(self) -> list[str]:
        return [tool["name"] for tool in self.call_method("tools/list")["tools"]]

    def call_method(self, method: str) -> dict[str, Any]:
        """Call a method that takes nothing; tools are held to the strictest reading."""
        strict = ["--strict"] if method == "tools/list" else []
        done = node_packages.run_node(
            [*self._command, method, *strict], node_packages.install_packages(), self._home
        )
        assert done.returncode == 0, done.stderr + done.stdout
        answer: dict[str, Any] = json.loads(done.stdout)["result"]
        return answer

    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        options = ["--tool-name", tool, "--tool-args-json", json.dumps(arguments)]
        command = [*self._command, "tools/call", *options]
        done = node_packages.run_node(command, node_packages.install_packages(), self._home)
        assert done.returncode in {0, _TOOL_FAILED}, done.stderr + done.stdout
        return ToolResult.from_wire(json.loads(done.stdout)["result"])


@contextmanager
def _open_inspector(era: str, connection: Connection, home: Path) -> Generator[ConnectedClient]:
    yield InspectorClient(era, connection, home)


_NODE_LOCK: Final = node_packages.JAVASCRIPT_FOLDER / "package-lock.json"
_OUR_LOCK: Final = REPOSITORY / "requirements.lock"
_V1: Final = ("TypeScript SDK", "@modelcontextprotocol/sdk", _NODE_LOCK)
_V2: Final = ("TypeScript SDK", "@modelcontextprotocol/client", _NODE_LOCK)
_INSPECTOR: Final = ("Inspector", "@modelcontextprotocol/inspector", _NODE_LOCK)
_MCP1: Final = ("Python SDK", "mcp", python_environments.lock_path("mcp1"))
_MCP2: Final = ("Python SDK", "mcp", _OUR_LOCK)
_FASTMCP: Final = ("FastMCP", "fastmcp", python_environments.lock_path("fastmcp4"))

CLIENTS: Final = (
    ClientSpec(*_V1, LEGACY_VERSION, partial(_open_typescript, "v1")),
    ClientSpec(*_V2, LEGACY_VERSION, partial(_open_typescript, "v2-legacy")),
    ClientSpec(*_V2, MODERN_VERSION, partial(_open_typescript, "v2-modern")),
    ClientSpec(*_INSPECTOR, LEGACY_VERSION, partial(_open_inspector, "legacy")),
    ClientSpec(*_INSPECTOR, MODERN_VERSION, partial(_open_inspector, "modern")),
    ClientSpec(*_MCP1, LEGACY_VERSION, partial(_open_python, "mcp1", "legacy")),
    ClientSpec(*_MCP2, LEGACY_VERSION, partial(_open_python, "mcp2", "legacy")),
    ClientSpec(*_MCP2, MODERN_VERSION, partial(_open_python, "mcp2", "auto")),
    ClientSpec(*_FASTMCP, LEGACY_VERSION, partial(_open_python, "fastmcp4", "legacy")),
    ClientSpec(*_FASTMCP, MODERN_VERSION, partial(_open_python, "fastmcp4", "auto")),
)
"""What people use to talk to us, each in every way it can."""
