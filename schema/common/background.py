"""How does something go on beside what needs it? Until that is over, and without changing it.

A task group would wrap whatever is raised inside it into a group, so that a sentence for an
operator arrived as "unhandled errors in a TaskGroup".
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

log = structlog.stdlib.get_logger()


@asynccontextmanager
async def run_in_background(*coroutines: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
    """Let work go on for as long as the body does; if it breaks, that is logged as a bug."""
    tasks = [asyncio.create_task(each) for each in coroutines]
    for task in tasks:
        task.add_done_callback(_log_failure)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("work.broken", exc_info=error)
