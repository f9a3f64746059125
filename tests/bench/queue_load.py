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
    """How much is measured; a part with no jobs is left out."""

    sequential: int = 0
    """Submits one after the other."""
    concurrent: int = 0
    """Submits by several callers."""
    callers: int = 16
    wakes: int = 0
    most_pause_seconds: float = 0.05
    """The longest pause before a wake-up: as long as the interval of a poll that would find it."""
    slots: int | None = None
    """How many jobs a worker runs at a time; None for as many as the queue is set up with."""


@dataclass
class QueueResult:
    """What one queue did in one round, in milliseconds and numbers per second; None: not measured.

    The CPU time of a job is not measured where the worker cannot be told from whoever submits.
    """

    submit_p50_ms: float | None = None
    submit_p95_ms: float | None = None
    submits_per_second: float | None = None
    ends_per_second: float | None = None
    cpu_per_job_ms: float | None = None
    wake_p50_ms: float | None = None
    wake_p95_ms: float | None = None

    def print(self) -> None:
        """Write what was measured as the last line of the program, for whoever has started it."""
        measured = {name: value for name, value in asdict(self).items() if value is not None}
        print(json.dumps(measured), flush=True)  # noqa: T201


class Queue(Protocol):
    """A queue under load."""

    name: str
    """For the message of an error."""
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


Submit = Callable[[str | None], Awaitable[Any]]


async def measure(queue: Queue, size: LoadSize) -> QueueResult:
    """Put the load on a queue that is empty.

    Raises:
        RuntimeError: the queue said that nothing is left, and not every job has run.
    """
    result = QueueResult()
    total = size.sequential + size.concurrent
    runs = SINK.runs + total
    await _measure_sequential_submits(queue.submit, size, result)
    started_at, began_with = time.perf_counter(), SINK.runs
    await _measure_concurrent_submits(queue.submit, size, result)
    if total:
        cpu_before = time.process_time()
        if not queue.drains_while_submitting:
            started_at, began_with = time.perf_counter(), SINK.runs
        await queue.drain(runs)
        seconds, cpu = time.perf_counter() - started_at, time.process_time() - cpu_before
        if SINK.runs < runs:
            raise RuntimeError(f"{queue.name} left {runs - SINK.runs} of {total} jobs")
        result.ends_per_second = (SINK.runs - began_with) / seconds
        if not queue.drains_while_submitting:
            result.cpu_per_job_ms = cpu * 1000 / total
    if size.wakes:
        wakes = [wake async for wake in _measure_wakes(queue, size)]
        result.wake_p50_ms = statistics.median(wakes)
        result.wake_p95_ms = statistics.quantiles(wakes, n=20)[-1]
    return result


async def measure_submits(submit: Submit, size: LoadSize) -> QueueResult:
    """Put only the submits of the load on something that nobody reads."""
    result = QueueResult()
    await _measure_sequential_submits(submit, size, result)
    await _measure_concurrent_submits(submit, size, result)
    return result


async def _measure_sequential_submits(submit: Submit, size: LoadSize, result: QueueResult) -> None:
    if not size.sequential:
        return
    durations = [await _time_ms(submit(None)) for _ in range(size.sequential)]
    result.submit_p50_ms = statistics.median(durations)
    result.submit_p95_ms = statistics.quantiles(durations, n=20)[-1]


async def _measure_concurrent_submits(submit: Submit, size: LoadSize, result: QueueResult) -> None:
    if not size.concurrent:
        return
    numbers = iter(range(size.concurrent))

    async def call() -> None:
        for _ in numbers:
            await submit(None)

    started_at = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(size.callers)))
    result.submits_per_second = size.concurrent / (time.perf_counter() - started_at)


async def _measure_wakes(queue: Queue, size: LoadSize) -> AsyncIterator[float]:
    async with queue.run_worker():
        await asyncio.sleep(_SETTLE_SECONDS)  # until the worker has nothing to do but wait
        for number in range(size.wakes):
            key = f"wake-{number}"
            started_at = time.perf_counter()
            await queue.submit(key)
            while key not in SINK.moments:
                if time.perf_counter() - started_at > _WAKE_TIMEOUT_SECONDS:
                    raise TimeoutError(f"{queue.name} did not run {key}")
                await asyncio.sleep(_WAKE_POLL_SECONDS)  # between two looks at the sink
            yield (SINK.moments[key] - started_at) * 1000
            # So that no poll is in step with us.
            await asyncio.sleep(0.02 + size.most_pause_seconds * (7 * number % 17) / 17)


async def _time_ms(action: Awaitable[Any]) -> float:
    started_at = time.perf_counter()
    await action
    return (time.perf_counter() - started_at) * 1000
