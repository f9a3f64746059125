"""A Hub with one job, whose log it streams as the test decides."""

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

from tests.support.http_server import serve_app

_LINES_PER_BLOCK: Final = 1000


@dataclass
class LogHub:
    """A Hub whose only job has printed `line_count` lines."""

    url: str = ""
    line_count: int = 0
    format_line: Callable[[int], str] = str
    break_after_lines: list[int] = field(default_factory=list[int])
    """Numbers of lines after which the next answers break off."""
    refusal_statuses: list[int] = field(default_factory=list[int])
    """HTTP statuses with which the next requests are refused."""
    stays_open: bool = False
    """Whether the log stays open at its end, as the log of a running job does."""
    prints_on: bool = False
    """Whether an open log goes on, line by line, as that of a program that reports each step."""
    request_count: int = 0

    async def stream_log(self, _: Request) -> Response:
        """Answer like `GET /api/jobs/{namespace}/{id}/logs`, from the start."""
        self.request_count += 1
        if self.refusal_statuses:
            return JSONResponse({"error": "no"}, self.refusal_statuses.pop(0))
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncGenerator[bytes]:
        end = (
            min(self.break_after_lines.pop(0), self.line_count) if self.break_after_lines else None
        )
        yield _format_event("===== Job started at 2026-11-21 02:10:41 =====")
        last = self.line_count if end is None else end
        for first in range(0, last, _LINES_PER_BLOCK):
            block = range(first, min(first + _LINES_PER_BLOCK, last))
            yield b"".join(_format_event(self.format_line(number)) for number in block)
        if end is not None:
            raise ConnectionAbortedError
        while self.stays_open:
            await anyio.sleep(0.2)  # a log that is silent
            yield _format_event(self.format_line(last)) if self.prints_on else b": keep-alive\n\n"
            last += self.prints_on


def _format_event(text: str) -> bytes:
    event = json.dumps({"data": text, "timestamp": "2026-11-21T02:10:42.104Z"})
    return f"data: {event}\n\n".encode()


@contextmanager
def run_log_hub() -> Generator[LogHub]:
    """Run such a Hub for the length of a block."""
    hub = LogHub()
    with serve_app(Starlette(routes=[Route("/{path:path}", hub.stream_log)])) as hub.url:
        yield hub
