"""Bounded waits until something holds that another process or task does."""

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeVar

import anyio
import pytest

POLL_INTERVAL: Final = timedelta(milliseconds=100)
DEFAULT_TIMEOUT: Final = timedelta(seconds=25)


T = TypeVar("T")


async def eventually(
    probe: Callable[[], Awaitable[T]],
    predicate: Callable[[T], bool],
    *,
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> T:
    """Look again and again until something holds of what is seen, and return it."""
    seen: T | None = None
    with anyio.move_on_after(timeout.total_seconds()):
        while True:
            seen = await probe()
            if predicate(seen):
                return seen
            await anyio.sleep(POLL_INTERVAL.total_seconds())  # between two looks at what others do
    pytest.fail(f"it never held; the last that was seen is {seen}")


def wait_until(predicate: Callable[[], bool], *, timeout_seconds: float = 15) -> None:
    """Look again and again until something holds."""
    deadline = time.monotonic() + timeout_seconds
    while not predicate():
        if time.monotonic() > deadline:
            pytest.fail("it never held")
        time.sleep(0.05)  # between two looks at what another process does
