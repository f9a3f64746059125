"""The clients of other makers, each as a process of its own that calls what it is told to."""

import json
import re
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

from service.cli.client_config import Connection
from tests.interop import node, python

LEGACY: Final = "2025-11-25"
MODERN: Final = "2026-07-28"
_TOOL_FAILED: Final = 5
"""How the Inspector exits when a call was answered with an error."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client was shown of an answer."""

    text: str
    failed: bool
    structured: dict[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> "Seen":
        """Read a result as it was on the wire."""
        text = "\n".join(part["text"] for part in result["content"] if "text" in part)
        return cls(text, bool(result.get("isError")), result.get("structuredContent") or {})


class Talker(Protocol):
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

    def call(self, tool: str, arguments: Mapping[str, Any]) -> Seen:
        """Call a tool, and wait for the answer."""
        ...


Open = Callable[[Connection, Path], AbstractContextManager[Talker]]


@dataclass(frozen=True, slots=True)
class Client:
    """A client, the package it is in, and the newest version of the protocol that it speaks."""

    name: str
    package: str
    lock: Path
    speaks: str
    open: Open

    @property
    def version(self) -> str:
        """Return the version of the package that is locked."""
        locked = self.lock.read_text(encoding="utf-8")
        if self.lock.suffix == ".json":
            return str(json.loads(locked)["packages"][f"node_modules/{self.package}"]["version"])
        (version,) = re.findall(rf"^{self.package}==(\S+)", locked, re.MULTILINE)
        return str(version)


class _Piped:
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

    def call(self, tool: str, arguments: Mapping[str, Any]) -> Seen:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps({'name': tool, 'arguments': arguments})}\n")
        self._process.stdin.flush()
        return Seen.of(self._read())

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        impatient = Timer(node.PATIENCE, self._process.kill)
        impatient.start()
        line = self._process.stdout.readline()
        impatient.cancel()
        if not line:
            self._process.wait(node.PATIENCE)
            self._errors.seek(0)
            raise AssertionError(self._errors.read())
        read: dict[str, Any] = json.loads(line)
        return read


@contextmanager
def _piped(command: list[str], connection: Connection, folder: Path) -> Generator[Talker]:
    with (
        TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            command,
            cwd=folder,
            env=node.surroundings({"HOLDFAST_TOKEN": connection.token or ""}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield _Piped(process, errors)
        finally:
            process.kill()


def _typescript(kind: str, connection: Connection, _: Path) -> AbstractContextManager[Talker]:
    command = [node.program("node"), "talk.mjs", kind, connection.endpoint]
    return _piped(command, connection, node.folder())


def _python(
    script: str, mode: str, connection: Connection, home: Path
) -> AbstractContextManager[Talker]:
    interpreter = sys.executable if script == "mcp2" else python.interpreter(script)
    program = str(python.CLIENTS / f"{script}.py")
    return _piped([interpreter, program, connection.endpoint, mode], connection, home)


class Inspector:
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
        return self.ask("initialize")

    @property
    def version(self) -> str:
        return str(self._greeting["protocolVersion"])

    @property
    def server(self) -> str:
        return str(self._greeting["serverInfo"]["name"])

    @property
    def tools(self) -> list[str]:
        return [tool["name"] for tool in self.ask("tools/list")["tools"]]

    def ask(self, method: str) -> dict[str, Any]:
        """Call a method that takes nothing; tools are held to the strictest reading."""
        strict = ["--strict"] if method == "tools/list" else []
        done = node.run([*self._command, method, *strict], node.folder(), self._home)
        assert done.returncode == 0, done.stderr + done.stdout
        answer: dict[str, Any] = json.loads(done.stdout)["result"]
        return answer

    def call(self, tool: str, arguments: Mapping[str, Any]) -> Seen:
        given = ["--tool-name", tool, "--tool-args-json", json.dumps(arguments)]
        command = [*self._command, "tools/call", *given]
        done = node.run(command, node.folder(), self._home)
        assert done.returncode in {0, _TOOL_FAILED}, done.stderr + done.stdout
        return Seen.of(json.loads(done.stdout)["result"])


@contextmanager
def _inspector(era: str, connection: Connection, home: Path) -> Generator[Talker]:
    yield Inspector(era, connection, home)


_NODE: Final = node.HERE / "package-lock.json"
_OURS: Final = node.HERE.parent.parent / "requirements.lock"
_V1: Final = ("TypeScript SDK", "@modelcontextprotocol/sdk", _NODE)
_V2: Final = ("TypeScript SDK", "@modelcontextprotocol/client", _NODE)
_INSPECTOR: Final = ("Inspector", "@modelcontextprotocol/inspector", _NODE)
_MCP1: Final = ("Python SDK", "mcp", python.lock("mcp1"))
_MCP2: Final = ("Python SDK", "mcp", _OURS)
_FASTMCP: Final = ("FastMCP", "fastmcp", python.lock("fastmcp4"))

CLIENTS: Final = (
    Client(*_V1, LEGACY, partial(_typescript, "v1")),
    Client(*_V2, LEGACY, partial(_typescript, "v2-legacy")),
    Client(*_V2, MODERN, partial(_typescript, "v2-modern")),
    Client(*_INSPECTOR, LEGACY, partial(_inspector, "legacy")),
    Client(*_INSPECTOR, MODERN, partial(_inspector, "modern")),
    Client(*_MCP1, LEGACY, partial(_python, "mcp1", "legacy")),
    Client(*_MCP2, LEGACY, partial(_python, "mcp2", "legacy")),
    Client(*_MCP2, MODERN, partial(_python, "mcp2", "auto")),
    Client(*_FASTMCP, LEGACY, partial(_python, "fastmcp4", "legacy")),
    Client(*_FASTMCP, MODERN, partial(_python, "fastmcp4", "auto")),
)
"""What people use to talk to us, each in every way it can."""
