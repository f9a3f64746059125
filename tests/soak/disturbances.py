"""What happens to a deployment in a soak: kills, flushes, restarts, hangs, and new releases."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.soak.deployment import Deployment, Program

_UNTYPED_REDIS: Final[Any] = Redis
_DOWN_SECONDS: Final = (0.2, 3.0)
_HANG_SECONDS: Final = 8.0
_MAX_STOP_SECONDS: Final = 10.0
_MIN_SHARE_SECONDS: Final = 20.0
"""The shortest unit of the intervals: a short run has fewer disturbances, not denser ones."""


@dataclass(slots=True)
class DisturbanceLog:
    """What was done to the deployment, and what went wrong with that."""

    started_at: float
    """By the monotonic clock, in seconds."""
    counts: Counter[str] = field(default_factory=Counter[str])
    moments: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    """Seconds since the start, and what was done then."""
    stop_seconds: list[float] = field(default_factory=list[float])
    violations: list[str] = field(default_factory=list[str])

    def record(self, name: str) -> None:
        """Write down that something was done now."""
        self.counts[name] += 1
        self.moments.append((time.monotonic() - self.started_at, name))


class Disturbances:
    """Everything that is done to a deployment; each is done in turns of its own."""

    def __init__(
        self,
        deployment: Deployment,
        log: DisturbanceLog,
        is_over: asyncio.Event,
        *,
        seconds: float,
        releases: list[Path],
    ) -> None:
        self._deployment = deployment
        self._log = log
        self._is_over = is_over
        self._seconds = seconds
        self._releases = releases
        self._lock = asyncio.Lock()
        """Held while a program is down or replaced, so that no two of these meet in one program."""

    async def run(self) -> None:
        """Disturb until the run is over."""
        share = max(self._seconds / 30, _MIN_SHARE_SECONDS)
        async with asyncio.TaskGroup() as group:
            for interval, disturb in (
                (0.15 * share, self._kill_worker),
                (0.5 * share, self._flush_redis),
                (2 * share, self._kill_service),
                (3 * share, self._restart_redis),
                (4 * share, self._hang_hub),
                (5 * share, self._restart_postgres),
                (7 * share, self._roll_out),
            ):
                group.create_task(self._repeat(interval, disturb))
            group.create_task(self._watch_programs())

    async def _repeat(self, interval: float, disturb: Callable[[], Awaitable[None]]) -> None:
        while not await self._wait(random.uniform(0.5, 1.5) * interval):  # noqa: S311
            await disturb()

    async def _wait(self, seconds: float) -> bool:
        """Wait so long; true if the run is over."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._is_over.wait(), seconds)
        return self._is_over.is_set()

    async def _kill_worker(self) -> None:
        await self._kill(random.choice(self._deployment.workers[1:]), "worker killed")  # noqa: S311

    async def _kill_service(self) -> None:
        await self._kill(self._deployment.services[-1], "service killed")

    async def _kill(self, program: Program, name: str) -> None:
        async with self._lock:
            self._log.record(name)
            program.kill()
            await self._wait(random.uniform(*_DOWN_SECONDS))  # noqa: S311
            program.start()

    async def _flush_redis(self) -> None:
        async with _UNTYPED_REDIS.from_url(self._deployment.redis_url) as redis:
            with suppress(RedisError, OSError):
                await redis.flushall()
                self._log.record("Redis emptied")

    async def _restart_redis(self) -> None:
        self._log.record("Redis restarted")
        self._deployment.valkey.stop()
        await self._wait(random.uniform(*_DOWN_SECONDS))  # noqa: S311
        self._deployment.valkey.start()

    async def _hang_hub(self) -> None:
        self._log.record("Hub hung")
        self._deployment.hub.pause()
        await self._wait(_HANG_SECONDS)
        self._deployment.hub.resume()

    async def _restart_postgres(self) -> None:
        self._log.record("Postgres restarted")
        self._deployment.postgres.stop()
        await self._wait(random.uniform(*_DOWN_SECONDS))  # noqa: S311
        self._deployment.postgres.start()

    async def _roll_out(self) -> None:
        """Replace each process but the steady ones by one of the next release, one at a time."""
        release = self._releases[self._log.counts["release rolled out"] % len(self._releases)]
        self._log.record("release rolled out")
        await self._deployment.migrate(release)
        steady = self._deployment.steady_programs
        for program in self._deployment.programs:
            if program in steady:
                continue
            async with self._lock:
                seconds = await program.stop()
                self._log.stop_seconds.append(seconds)
                if seconds > _MAX_STOP_SECONDS:
                    self._log.violations.append(f"{program.name} took {seconds:.1f} s to stop")
                program.release = release
                program.start()
                if program.url:
                    await program.wait_until_ready()

    async def _watch_programs(self) -> None:
        """Notice a program that ends by itself, and start it again."""
        while not await self._wait(1):
            for program in self._deployment.programs:
                if program.has_ended_by_itself:
                    self._log.violations.append(f"{program.name} ended by itself")
                    program.start()
