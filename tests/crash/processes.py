"""The processes of one lane: asked of the nursery, signalled by id, and seen to end."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

ROOT: Final = Path(__file__).resolve().parent.parent.parent


@dataclass(slots=True)
class Process:
    """One process, by its id."""

    pid: int
    over: asyncio.Future[int]
    """Its exit code, when it has ended; negative for a signal."""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if not self.over.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def is_stopped(self) -> bool:
        """Tell whether it is frozen by a signal."""
        with suppress(OSError):
            return Path(f"/proc/{self.pid}/stat").read_text("utf-8").rpartition(")")[2][1] == "T"
        return False

    async def kill(self) -> None:
        """End it, and see it end."""
        self.signal(signal.SIGKILL)
        await self.over


@dataclass(slots=True)
class Nursery:
    """Starts processes quickly, and none outlives it."""

    process: asyncio.subprocess.Process
    folder: Path
    _born: asyncio.Queue[Process] = field(default_factory=asyncio.Queue)
    _alive: dict[int, Process] = field(default_factory=dict)

    async def start(
        self, role: str, *arguments: Any, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start a `worker`, a `service` or a `hub`."""
        order = {
            "role": role,
            "arguments": arguments,
            "environment": dict(environment or {}),
            "log": str(self.folder / f"{role}.log"),
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        return await self._born.get()

    async def listen(self) -> Self:
        """Hear what the nursery says, until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            said = json.loads(line)
            if "code" in said:
                self._alive.pop(said["pid"]).over.set_result(said["code"])
            else:
                born = Process(said["pid"], asyncio.get_running_loop().create_future())
                self._alive[born.pid] = born
                self._born.put_nowait(born)
        return self


@asynccontextmanager
async def nursery(folder: Path) -> AsyncGenerator[Nursery]:
    """Run a nursery whose processes write their logs into `folder`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.crash.nursery",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    running = Nursery(process, folder)
    listening = asyncio.create_task(running.listen())
    try:
        yield running
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await listening
