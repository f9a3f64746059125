"""Bounded waits until something holds that another process or task does."""

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeVar

import anyio
import pytest

POLL_INTERVAL: Final = timedelta(milliseconds=100)
SHORT_INTERVAL: Final = timedelta(milliseconds=20)
"""For a probe that costs little: a row, or a count in this process."""
DEFAULT_TIMEOUT: Final = timedelta(seconds=45)
HTTP_TIMEOUT_SECONDS: Final = 45.0
"""Of a client whose server must answer: longer than a busy machine ever took."""


T = TypeVar("T")


async def eventually(
    probe: Callable[[], Awaitable[T]],
    predicate: Callable[[T], bool],
    *,
    timeout: timedelta = DEFAULT_TIMEOUT,
    interval: timedelta = POLL_INTERVAL,
) -> T:
    """Probe until the predicate holds of the result, and return that result."""
    result: T | None = None
    with anyio.move_on_after(timeout.total_seconds()):
        while True:
            result = await probe()
            if predicate(result):
                return result
            await anyio.sleep(interval.total_seconds())  # between two looks at what others do
    pytest.fail(f"it never held; the last result is {result}")


def wait_until(predicate: Callable[[], bool], *, timeout: timedelta = DEFAULT_TIMEOUT) -> None:
    """Check again and again until the predicate holds."""
    deadline = time.monotonic() + timeout.total_seconds()
    while not predicate():
        if time.monotonic() > deadline:
            pytest.fail("it never held")
        time.sleep(SHORT_INTERVAL.total_seconds())  # between two looks at what another process does
