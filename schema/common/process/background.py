"""Background tasks for the length of a block.

This is no task group: that wraps whatever is raised inside of it into an exception group, and a
sentence for an operator would arrive as "unhandled errors in a TaskGroup".
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

_CANCEL_INTERVAL_SECONDS: Final = 0.5

log = structlog.stdlib.get_logger()


@asynccontextmanager
async def run_in_background(*coroutines: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Run coroutines until the block ends; an exception in one of them is logged as a bug."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    for task in tasks:
        task.add_done_callback(_log_failure)
    try:
        yield
    finally:
        running = set(tasks)
        while running:
            # Again and again: a library that is cancelled at the wrong moment can lose the first
            # one (`asyncio.wait_for` of Python 3.11 does), and this would wait for ever.
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=_CANCEL_INTERVAL_SECONDS)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("work.broken", exc_info=error)
