"""The processes of one crash test: started by the fork server, signalled by id, and awaited."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.crash import fork_server
from tests.support.paths import REPOSITORY


@dataclass(slots=True)
class ForkedProcess:
    """One process, by its id."""

    pid: int
    exit_code: asyncio.Future[int]
    """Its exit code, when it has ended; negative for a signal."""

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if not self.exit_code.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def is_stopped(self) -> bool:
        """Tell whether it is frozen by a signal."""
        with suppress(OSError):
            return Path(f"/proc/{self.pid}/stat").read_text("utf-8").rpartition(")")[2][1] == "T"
        return False

    async def kill(self) -> None:
        """End it, and see it end."""
        self.send_signal(signal.SIGKILL)
        await self.exit_code


@dataclass(slots=True)
class ForkServer:
    """Starts processes quickly, and none outlives it."""

    process: asyncio.subprocess.Process
    folder: Path
    _started: asyncio.Queue[ForkedProcess] = field(default_factory=asyncio.Queue)
    _alive: dict[int, ForkedProcess] = field(default_factory=dict)

    async def start(
        self, role: str, *arguments: Any, environment: Mapping[str, str] | None = None
    ) -> ForkedProcess:
        """Start a `worker`, a `service` or a `hub`."""
        request = {
            "role": role,
            "arguments": arguments,
            "environment": dict(environment or {}),
            "log": str(self.folder / f"{role}.log"),
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        return await self._started.get()

    async def read_messages(self) -> Self:
        """Read the messages of the fork server until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            message = json.loads(line)
            if "code" in message:
                self._alive.pop(message["pid"]).exit_code.set_result(message["code"])
            else:
                started = ForkedProcess(message["pid"], asyncio.get_running_loop().create_future())
                self._alive[started.pid] = started
                self._started.put_nowait(started)
        return self


@asynccontextmanager
async def run_fork_server(folder: Path) -> AsyncGenerator[ForkServer]:
    """Run a fork server whose processes write their logs into `folder`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        fork_server.__name__,
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    fork = ForkServer(process, folder)
    reading = asyncio.create_task(fork.read_messages())
    try:
        yield fork
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await reading
