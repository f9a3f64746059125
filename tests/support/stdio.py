"""`holdfast stdio` as a client starts it: a process, its lines, and the client of the SDK."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Literal

import pytest
from mcp import Client, StdioServerParameters, stdio_client

from tests.support.paths import REPOSITORY
from tests.support.polling import DEFAULT_TIMEOUT, HTTP_TIMEOUT_SECONDS

_VARIABLES: Final = ("PATH", "HOME", "LANG", "VIRTUAL_ENV", "HOLDFAST_BOOTSTRAPPED", "TMPDIR")
END: Final = "end"


class StdioProcess:
    """A bridge, and a client that writes and reads its lines."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.lines: list[bytes] = []
        """All that the bridge has written to standard output."""
        self._queue = SimpleQueue[bytes]()
        self._reader = threading.Thread(target=self._read, daemon=True)
        if process.stdout is not None:
            self._reader.start()

    def send(self, message: dict[str, Any] | list[Any] | bytes) -> None:
        """Write a line."""
        assert self.process.stdin is not None
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.process.stdin.write(text + b"\n")
        self.process.stdin.flush()

    def request(
        self, request_id: int | str, method: str, params: dict[str, Any] | None = None
    ) -> None:
        """Write a request."""
        fields = {"jsonrpc": "2.0", "id": request_id, "method": method}
        self.send(fields | ({} if params is None else {"params": params}))

    def receive(self) -> Any:
        """Return the next message, or `END`."""
        try:
            line = self._queue.get(timeout=DEFAULT_TIMEOUT.total_seconds())
        except Empty:
            pytest.fail("the bridge has written nothing")
        return json.loads(line) if line else END

    def ask(self, method: str, params: dict[str, Any] | None = None) -> Any:
        """Send a request, and return the next message."""
        self.request(1, method, params)
        return self.receive()

    def close_input(self) -> None:
        """End the input, as a client does that ends."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            self._queue.put(line)
        self._queue.put(b"")

    def close(self) -> None:
        """Kill the bridge if it lives, and close its pipes."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self._reader.join()
            self.process.stdout.close()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # of what was not written yet
            self.process.stdin.close()


@contextmanager
def run_stdio(
    *arguments: str,
    log: Path,
    folder: Path = REPOSITORY,
    output: int = subprocess.PIPE,
    environment: Mapping[str, str] | None = None,
) -> Generator[StdioProcess]:
    """Run `holdfast stdio`; it is killed after the block if it has not ended.

    Args:
        arguments: behind the command.
        log: where its standard error goes.
        folder: where it is started.
        output: where its standard output goes, if that is not read here.
        environment: more variables; of this process it has few, as a program of a client has.
    """
    inherited = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "stdio", *arguments],
            cwd=folder,
            env=inherited | {"PYTHONPATH": str(REPOSITORY)} | dict(environment or {}),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=errors,
        )
    bridge = StdioProcess(process)
    try:
        yield bridge
    finally:
        bridge.close()


@asynccontextmanager
async def connect_stdio(
    arguments: Sequence[str],
    *,
    log: Path,
    mode: Literal["legacy", "auto"] = "auto",
    command: Sequence[str] = (sys.executable, "-m", "service", "stdio"),
    environment: Mapping[str, str] | None = None,
    elicitation_callback: Any = None,
) -> AsyncGenerator[Client]:
    """Connect the client of the SDK, which starts the bridge and ends it.

    Args:
        arguments: behind the command.
        log: where its standard error goes.
        mode: which revisions of the protocol the client speaks.
        command: what starts the bridge.
        environment: variables of the bridge, beside those that every program of the client gets.
        elicitation_callback: who is asked.
    """
    program, *words = [*command, *arguments]
    variables = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    server = StdioServerParameters(
        command=program,
        args=words,
        env=variables | {"PYTHONPATH": str(REPOSITORY)} | dict(environment or {}),
        cwd=str(log.parent),
    )
    with log.open("a", encoding="utf-8") as errors:
        async with Client(
            stdio_client(server, errlog=errors),
            mode=mode,
            read_timeout_seconds=HTTP_TIMEOUT_SECONDS,
            elicitation_callback=elicitation_callback,
        ) as client:
            yield client
