"""Work beside a body ends with it, and leaves what the body raises as it is."""

import anyio
import pytest
from structlog.testing import capture_logs

from schema.common.errors import Conflict
from schema.common.process.background import run_in_background


async def test_what_the_body_raises_arrives_as_it_is() -> None:
    """A sentence that says what to do must not be wrapped in a group of errors."""
    with pytest.raises(Conflict, match="Run `holdfast migrate`"):
        async with run_in_background(anyio.sleep_forever()):
            raise Conflict("Run `holdfast migrate` first.")


async def test_the_work_is_over_when_the_body_is() -> None:
    ended = anyio.Event()

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async with run_in_background(work()):
        await anyio.lowlevel.checkpoint()

    assert ended.is_set()


async def test_work_that_loses_a_cancel_is_cancelled_again() -> None:
    """A library that swallows one would keep the process from ending."""
    cancels = 0

    async def work() -> None:
        nonlocal cancels
        while cancels < 2:
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                cancels += 1

    with anyio.fail_after(10):
        async with run_in_background(work()):
            await anyio.lowlevel.checkpoint()

    assert cancels == 2


async def test_work_that_breaks_is_logged_and_stops_nothing_else() -> None:
    async def work() -> None:
        raise ZeroDivisionError

    with capture_logs() as events:
        async with run_in_background(work()):
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()

    assert [each["event"] for each in events] == ["work.broken"]
