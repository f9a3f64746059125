"""The load that every queue gets, ours and the peers': submits, a drain, and single wake-ups.

It uses the standard library only, because it runs in the environment of each peer.
"""

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

_WAKE_TIMEOUT_SECONDS = 8.0
_WAKE_POLL_SECONDS = 0.0005
_SETTLE_SECONDS = 1.5


@dataclass
class Sink:
    """What the no-op jobs have written down."""

    runs: int = 0
    moments: dict[str, float] = field(default_factory=dict)

    def hit(self, key: str | None) -> None:
        """Count a run, and remember when the one with this key was."""
        self.runs += 1
        if key:
            self.moments[key] = time.perf_counter()


SINK = Sink()


@dataclass(frozen=True)
class LoadSize:
    """How much is measured."""

    sequential: int
    """Submits one after the other."""
    concurrent: int
    """Submits by several callers."""
    callers: int
    wakes: int


@dataclass
class QueueResult:
    """What one queue did in one round; milliseconds, and numbers per second."""

    peer: str
    submit_p50_ms: float = 0.0
    submit_p95_ms: float = 0.0
    submits_per_second: float = 0.0
    ends_per_second: float = 0.0
    cpu_per_job_ms: float | None = None
    wake_p50_ms: float = 0.0
    wake_p95_ms: float = 0.0

    def print(self) -> None:
        """Write it as the last line of the program, for whoever has started it."""
        print(json.dumps(asdict(self)), flush=True)  # noqa: T201


class Queue(Protocol):
    """A queue under load."""

    name: str
    drains_while_submitting: bool
    """Whether its worker cannot be kept from running while jobs are submitted."""

    async def submit(self, key: str | None) -> None:
        """Put one durable no-op job in the queue."""
        ...

    async def drain(self, runs: int) -> None:
        """Let one worker run until so many jobs have run and nothing is left."""
        ...

    def run_worker(self) -> AbstractAsyncContextManager[None]:
        """Let one worker wait for jobs, for the length of a block."""
        ...


async def measure(queue: Queue, size: LoadSize) -> QueueResult:
    """Put the load on a queue that is empty."""
    result = QueueResult(queue.name)
    durations = [await _time_ms(queue.submit(None)) for _ in range(size.sequential)]
    result.submit_p50_ms = statistics.median(durations)
    result.submit_p95_ms = statistics.quantiles(durations, n=20)[-1]
    started_at, began_with = time.perf_counter(), SINK.runs
    await _submit_side_by_side(queue, size)
    result.submits_per_second = size.concurrent / (time.perf_counter() - started_at)
    total = size.sequential + size.concurrent
    cpu_before = time.process_time()
    if not queue.drains_while_submitting:
        started_at, began_with = time.perf_counter(), SINK.runs
    await queue.drain(total)
    result.ends_per_second = (SINK.runs - began_with) / (time.perf_counter() - started_at)
    if not queue.drains_while_submitting:
        result.cpu_per_job_ms = (time.process_time() - cpu_before) * 1000 / total
    wakes = [wake async for wake in _measure_wakes(queue, size.wakes)]
    result.wake_p50_ms = statistics.median(wakes)
    result.wake_p95_ms = statistics.quantiles(wakes, n=20)[-1]
    return result


async def _submit_side_by_side(queue: Queue, size: LoadSize) -> None:
    numbers = iter(range(size.concurrent))

    async def call() -> None:
        for _ in numbers:
            await queue.submit(None)

    await asyncio.gather(*(call() for _ in range(size.callers)))


async def _measure_wakes(queue: Queue, count: int) -> AsyncIterator[float]:
    async with queue.run_worker():
        await asyncio.sleep(_SETTLE_SECONDS)  # until the worker has nothing to do but wait
        for number in range(count):
            key = f"wake-{number}"
            started_at = time.perf_counter()
            await queue.submit(key)
            while key not in SINK.moments:
                if time.perf_counter() - started_at > _WAKE_TIMEOUT_SECONDS:
                    raise TimeoutError(f"{queue.name} did not run {key}")
                await asyncio.sleep(_WAKE_POLL_SECONDS)  # between two looks at the sink
            yield (SINK.moments[key] - started_at) * 1000
            await asyncio.sleep(0.02 + 0.003 * (number % 17))  # so that no poll is in step with us


async def _time_ms(action: Awaitable[Any]) -> float:
    started_at = time.perf_counter()
    await action
    return (time.perf_counter() - started_at) * 1000


Main = Callable[[LoadSize], Awaitable[QueueResult]]
