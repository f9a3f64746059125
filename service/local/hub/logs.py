"""A job's log as the Hub streams it: from the beginning, in order, to the end of the job."""

import asyncio
import json
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Final

from service.local.hub.jobs import LocalJob

_KEEP_ALIVE: Final = timedelta(seconds=30)


async def log_stream(job: LocalJob, *, tail: int | None) -> AsyncGenerator[str]:
    """Yield the log as server-sent events; with `tail`, the first line and the last few."""
    if tail is not None:
        for line in [*job.log[:1], *job.log[1:][len(job.log[1:]) - tail :]]:
            yield _event(line)
    sent = 0 if tail is None else len(job.log)
    while True:
        for line in job.log[sent:]:
            yield _event(line)
            sent += 1
        if job.is_over and sent == len(job.log):
            return
        try:
            async with asyncio.timeout(_KEEP_ALIVE.total_seconds()), job.changed:
                while not job.is_over and sent == len(job.log):
                    await job.changed.wait()
        except TimeoutError:
            yield ": keep-alive\n\n"


def _event(line: tuple[str, str]) -> str:
    at, text = line
    return f"data: {json.dumps({'data': text, 'timestamp': at})}\n\n"
