"""Who in this process waits for which job, and how do they hear that it has changed?

    hints (Valkey, one connection) ──┐
                                     ├──▶ whoever waits for that job reads it, as its subject
    marks (Postgres, once a second) ─┘

Hints are quick and may be lost. The marks are the guarantee: one statement a second for everything
that anybody here waits for, and none while nobody waits. Neither says what has changed: to know
it, the waiter reads the job under the wall. Nothing here knows of MCP.
"""

from collections import defaultdict
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Final
from uuid import UUID

import anyio
import structlog

from schema.common.background import beside
from schema.common.errors import Unavailable
from schema.jobs import changes as job_changes
from schema.jobs.changes import Mark
from schema.messaging import change_notifications
from service.database import Ground

EVERY: Final = timedelta(seconds=1)
"""How often the marks of what is waited for are read."""

log = structlog.stdlib.get_logger()


class Changes:
    """What one waiter has seen of the jobs they wait for, and has been told since."""

    def __init__(self, subject_id: str) -> None:
        self.subject_id = subject_id
        self.seen: dict[UUID, Mark] = {}
        self.told: dict[UUID, int] = {}
        """What has been said since; whoever waits is woken while there is something."""
        self._some = anyio.Event()
        self._stopped = False

    def saw(self, seen: Mapping[UUID, Mark]) -> None:
        """Say how the jobs were when they were read; those left out are not waited for any more."""
        self.seen = dict(seen)
        self.told = {
            job_id: version
            for job_id, version in self.told.items()
            if job_id in seen and version > seen[job_id].version
        }
        if not self.told and not self._stopped:
            self._some = anyio.Event()

    def tell(self, job_id: UUID, version: int) -> None:
        """Say that a job is at a version; what has been seen, or is not waited for, is no news."""
        mark = self.seen.get(job_id)
        if mark is None and self.seen:
            return
        if mark is None or version > mark.version:
            self.told[job_id] = max(version, self.told.get(job_id, 0))
            self._some.set()

    def look(self, job_id: UUID, found: Mark | None) -> None:
        """Say how a job was just found; if it is not as it was seen, it is to be read again."""
        mark = self.seen.get(job_id)
        if mark is None or found == mark or (found and found.version < mark.version):
            return
        self.told[job_id] = mark.version if found is None else found.version
        self._some.set()

    def stop(self) -> None:
        """Let the waiter go, now and whenever they wait again."""
        self._stopped = True
        self._some.set()

    async def next(self) -> frozenset[UUID]:
        """Wait until some of the jobs may have changed; none: the process is about to stop."""
        await self._some.wait()
        return frozenset(self.told)


class Waiting:
    """The waiters of one process."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._by_job: defaultdict[UUID, set[Changes]] = defaultdict(set)
        self._somebody = anyio.Event()
        self.stopping = False
        """Whether nobody is to wait any more, because the process has been told to stop."""
        self._stopped = anyio.Event()

    @contextmanager
    def on(self, subject_id: str, job_ids: Iterable[UUID]) -> Generator[Changes]:
        """Wait for jobs as a subject, from before they are read; then say what was `saw`n.

        Whoever enters first and reads then misses nothing: what happens in between is told.
        """
        changes = Changes(subject_id)
        wanted = frozenset(job_ids)
        for job_id in wanted:
            self._by_job[job_id].add(changes)
        self._somebody.set()
        if self.stopping:
            changes.stop()
        try:
            yield changes
        finally:
            for job_id in wanted:
                self._by_job[job_id].discard(changes)
                if not self._by_job[job_id]:
                    del self._by_job[job_id]
            if not self._by_job:
                self._somebody = anyio.Event()

    @property
    def waiters(self) -> int:
        """How many wait."""
        return len(self._waiters())

    def stop(self) -> None:
        """Let everybody go, now and from now on."""
        self.stopping = True
        self._stopped.set()
        for waiter in self._waiters():
            waiter.stop()

    async def until_stopped(self) -> None:
        """Wait for nothing but that."""
        await self._stopped.wait()

    def hear(self, moved: Mapping[UUID, int]) -> None:
        """Pass a hint on."""
        for job_id, version in moved.items():
            for waiter in self._by_job.get(job_id, ()):
                waiter.tell(job_id, version)

    async def look(self) -> None:
        """Read the marks of everything that is waited for, and pass on what is not as it was."""
        pairs = {(each.subject_id, job_id) for each in self._waiters() for job_id in each.seen}
        if not pairs:
            return
        async with self._ground.transaction() as tx:
            marks = await job_changes.marks(tx, pairs)
        for waiter in self._waiters():
            for job_id in waiter.seen:
                # Who came, or went on to other jobs, while we read is served by the next look.
                if (pair := (waiter.subject_id, job_id)) in pairs:
                    waiter.look(job_id, marks.get(pair))

    async def look_for_ever(self, every: timedelta = EVERY) -> None:
        """Look again and again, while anybody waits."""
        while True:
            await self._somebody.wait()
            await anyio.sleep(every.total_seconds())
            try:
                await self.look()
            except Unavailable as error:
                log.warning("waiting.not_looked", error=str(error))

    def _waiters(self) -> set[Changes]:
        return {waiter for waiters in self._by_job.values() for waiter in waiters}


@asynccontextmanager
async def waiting(url: str, ground: Ground) -> AsyncGenerator[Waiting]:
    """Serve waiters, with hints from the Valkey at `url` while it is there."""
    waiters = Waiting(ground)
    async with beside(change_notifications.listen(url, waiters.hear), waiters.look_for_ever()):
        yield waiters
