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

from schema.common.background import run_in_background
from schema.common.errors import Unavailable
from schema.jobs import changes as job_changes
from schema.jobs.changes import JobVersion
from schema.messaging import change_notifications
from service.database import TenantDatabase

POLL_INTERVAL: Final = timedelta(seconds=1)
"""How often the marks of what is waited for are read."""

log = structlog.stdlib.get_logger()


class JobWatcher:
    """What one waiter has seen of the jobs they wait for, and has been told since."""

    def __init__(self, subject_id: str) -> None:
        self.subject_id = subject_id
        self.seen_versions: dict[UUID, JobVersion] = {}
        self.changed_versions: dict[UUID, int] = {}
        """What has been said since; whoever waits is woken while there is something."""
        self._changed = anyio.Event()
        self._stopped = False

    def set_seen(self, seen_versions: Mapping[UUID, JobVersion]) -> None:
        """Say how the jobs were when they were read; those left out are not waited for any more."""
        self.seen_versions = dict(seen_versions)
        self.changed_versions = {
            job_id: version
            for job_id, version in self.changed_versions.items()
            if job_id in seen_versions and version > seen_versions[job_id].version
        }
        if not self.changed_versions and not self._stopped:
            self._changed = anyio.Event()

    def notify_version(self, job_id: UUID, version: int) -> None:
        """Say that a job is at a version; what has been seen, or is not waited for, is no news."""
        mark = self.seen_versions.get(job_id)
        if mark is None and self.seen_versions:
            return
        if mark is None or version > mark.version:
            self.changed_versions[job_id] = max(version, self.changed_versions.get(job_id, 0))
            self._changed.set()

    def compare(self, job_id: UUID, current: JobVersion | None) -> None:
        """Say how a job was just found; if it is not as it was seen, it is to be read again."""
        mark = self.seen_versions.get(job_id)
        if mark is None or current == mark or (current and current.version < mark.version):
            return
        self.changed_versions[job_id] = mark.version if current is None else current.version
        self._changed.set()

    def stop(self) -> None:
        """Let the waiter go, now and whenever they wait again."""
        self._stopped = True
        self._changed.set()

    async def wait_for_change(self) -> frozenset[UUID]:
        """Wait until some of the jobs may have changed; none: the process is about to stop."""
        await self._changed.wait()
        return frozenset(self.changed_versions)


class JobWatchRegistry:
    """The waiters of one process."""

    def __init__(self, database: TenantDatabase) -> None:
        self._database = database
        self._watchers_by_job: defaultdict[UUID, set[JobWatcher]] = defaultdict(set)
        self._has_watchers = anyio.Event()
        self.is_stopping = False
        """Whether nobody is to wait any more, because the process has been told to stop."""
        self._stopped = anyio.Event()

    @contextmanager
    def watch(self, subject_id: str, job_ids: Iterable[UUID]) -> Generator[JobWatcher]:
        """Wait for jobs as a subject, from before they are read; then say what was `saw`n.

        Whoever enters first and reads then misses nothing: what happens in between is told.
        """
        changes = JobWatcher(subject_id)
        wanted = frozenset(job_ids)
        for job_id in wanted:
            self._watchers_by_job[job_id].add(changes)
        self._has_watchers.set()
        if self.is_stopping:
            changes.stop()
        try:
            yield changes
        finally:
            for job_id in wanted:
                self._watchers_by_job[job_id].discard(changes)
                if not self._watchers_by_job[job_id]:
                    del self._watchers_by_job[job_id]
            if not self._watchers_by_job:
                self._has_watchers = anyio.Event()

    @property
    def watcher_count(self) -> int:
        """How many wait."""
        return len(self._watchers())

    def stop(self) -> None:
        """Let everybody go, now and from now on."""
        self.is_stopping = True
        self._stopped.set()
        for waiter in self._watchers():
            waiter.stop()

    async def wait_until_stopped(self) -> None:
        """Wait for nothing but that."""
        await self._stopped.wait()

    def notify_changed(self, versions: Mapping[UUID, int]) -> None:
        """Pass a hint on."""
        for job_id, version in versions.items():
            for waiter in self._watchers_by_job.get(job_id, ()):
                waiter.notify_version(job_id, version)

    async def poll(self) -> None:
        """Read the marks of everything that is waited for, and pass on what is not as it was."""
        pairs = {
            (each.subject_id, job_id) for each in self._watchers() for job_id in each.seen_versions
        }
        if not pairs:
            return
        async with self._database.transaction() as tx:
            marks = await job_changes.read_versions(tx, pairs)
        for waiter in self._watchers():
            for job_id in waiter.seen_versions:
                # Who came, or went on to other jobs, while we read is served by the next look.
                if (pair := (waiter.subject_id, job_id)) in pairs:
                    waiter.compare(job_id, marks.get(pair))

    async def poll_forever(self, interval: timedelta = POLL_INTERVAL) -> None:
        """Look again and again, while anybody waits."""
        while True:
            await self._has_watchers.wait()
            await anyio.sleep(interval.total_seconds())
            try:
                await self.poll()
            except Unavailable as error:
                log.warning("waiting.not_looked", error=str(error))

    def _watchers(self) -> set[JobWatcher]:
        return {waiter for waiters in self._watchers_by_job.values() for waiter in waiters}


@asynccontextmanager
async def open_job_watch(
    redis_url: str, database: TenantDatabase
) -> AsyncGenerator[JobWatchRegistry]:
    """Serve waiters, with hints from the Valkey at `url` while it is there."""
    waiters = JobWatchRegistry(database)
    async with run_in_background(
        change_notifications.listen_for_changes(redis_url, waiters.notify_changed),
        waiters.poll_forever(),
    ):
        yield waiters
