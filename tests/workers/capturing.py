"""One capture, as a worker makes it; run as a program, it is a process that can be killed.

The Hub it reads from has one log, and gives it as it is told to.
"""

import json
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from schema.accounts import credentials
from schema.accounts.vault import Secret
from schema.jobs import work_queues
from schema.jobs.work_queues import AgedRun, Turn
from schema.settings import Settings
from tests.conftest import ADA
from tests.service.stand_in import serving
from workers.artifacts.log_capture import capture, redactor_of
from workers.context import Worker
from workers.worker import build

_BLOCK: Final = 1000


@dataclass
class LogHub:
    """A Hub whose only job has printed `length` lines."""

    url: str = ""
    length: int = 0
    line: Callable[[int], str] = str
    breaks: list[int] = field(default_factory=list[int])
    """After how many lines the next answers break off."""
    refuses: list[int] = field(default_factory=list[int])
    """With which status the next answers refuse."""
    silent: bool = False
    """Whether the log is left open at its end, as that of a job that runs."""
    asked: int = 0

    async def answer(self, _: Request) -> Response:
        """Answer like `GET /api/jobs/{namespace}/{id}/logs`, from the start."""
        self.asked += 1
        if self.refuses:
            return JSONResponse({"error": "no"}, self.refuses.pop(0))
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncGenerator[bytes]:
        end = min(self.breaks.pop(0), self.length) if self.breaks else None
        yield _event("===== Job started at 2026-11-21 02:10:41 =====")
        last = self.length if end is None else end
        for first in range(0, last, _BLOCK):
            block = range(first, min(first + _BLOCK, last))
            yield b"".join(_event(self.line(number)) for number in block)
        if end is not None:
            raise ConnectionAbortedError
        while self.silent:
            await anyio.sleep(0.2)  # a log that is silent
            yield b": keep-alive\n\n"


def _event(text: str) -> bytes:
    said = json.dumps({"data": text, "timestamp": "2026-11-21T02:10:42.104Z"})
    return f"data: {said}\n\n".encode()


@contextmanager
def log_hub() -> Generator[LogHub]:
    """Run such a Hub."""
    hub = LogHub()
    with serving(Starlette(routes=[Route("/{path:path}", hub.answer)])) as hub.url:
        yield hub


async def run_of(worker: Worker) -> AgedRun:
    """Look at Ada's one run, as a turn does."""
    async with worker.database.transaction() as tx:
        (run,) = await work_queues.bound_runs(tx, Turn(ADA, "ada", 0))
    return run


async def capture_once(worker: Worker, *, over: bool = True, run: AgedRun | None = None) -> bool:
    """Capture what is new of the log of Ada's one run."""
    run = run or await run_of(worker)
    async with worker.database.transaction() as tx:
        lent = await credentials.lend(tx, worker.vault, ADA)
    assert lent is not None
    redactor = await redactor_of(worker, run, lent)
    return await capture(worker, run, lent, redactor, over=over)


async def _main() -> None:
    async with build(Settings.read()) as worker:
        assert await capture_once(worker)


SECRET: Final = Secret("-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END KEY-----")
"""One that goes over lines."""

if __name__ == "__main__":
    anyio.run(_main)
