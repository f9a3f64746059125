"""Registry of what the requests of this process watch, and the loops that notice changes.

    change notifications (Valkey, one connection) ──┐
                                                    ├──▶ JobWatcher  ──▶ the request reads the job
    versions of jobs (Postgres, once a second) ─────┘
    digests of pages (Postgres, once a second) ────────▶ PageWatcher ──▶ the client is told

Notifications are quick and may be lost; polling is the guarantee. A poll reads the versions of all
watched jobs in one statement, and the digests of logs and workspaces in one statement a subject,
under row-level security. While nobody watches, nothing is read. The two loops are separate, so that
neither delays the other, and each one outlives an outage of Postgres.

A watcher learns that something changed, not what: it reads the job as its subject to know that.
Watchers of one subject that one change has woken read it together (`service.runtime.shared_reads`).
Whoever starts to watch, then reads, then calls `set_seen` misses no change in between. Nothing here
knows MCP.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import anyio
import structlog
from typing_extensions import override

from schema.common.errors import Unavailable
from schema.common.process.background import run_in_background
from schema.jobs.monitoring import changes
from schema.jobs.monitoring.changes import JobVersion
from schema.messaging import change_notifications
from service.database import TenantDatabase
from service.runtime.shared_reads import SharedReads

POLL_INTERVAL: Final = timedelta(seconds=1)

_ValueT = TypeVar("_ValueT")
_WatcherT = TypeVar("_WatcherT", bound="Watcher[Any]")
_SubjectAndId = tuple[str, UUID]

log = structlog.stdlib.get_logger()


class Watcher(ABC, Generic[_ValueT]):
    """One reader of jobs or pages: what it has seen of them, and which have changed since."""

    def __init__(self, subject_id: str, ids: Iterable[UUID]) -> None:
        self.subject_id = subject_id
        self.ids = frozenset(ids)
        """Everything that is watched, at first."""
        self.seen: dict[UUID, _ValueT | None] = {}
        """What is polled: how each of the ids was when the reader last saw it."""
        self._changed = anyio.Event()

    @abstractmethod
    def compare(self, resource_id: UUID, current: _ValueT | None) -> None:
        """Take what a poll has just read of one id; None if there is nothing to read."""

    @abstractmethod
    async def wait_for_change(self) -> frozenset[UUID]:
        """Wait until something may have changed, and return the ids of that."""


class JobWatcher(Watcher[JobVersion]):
    """Watches jobs. A change counts until `set_seen` says that it has been read.

    So a wait may be cancelled at any time, and no change is lost.
    """

    def __init__(self, subject_id: str, job_ids: Iterable[UUID]) -> None:
        super().__init__(subject_id, job_ids)
        self.changed_versions: dict[UUID, int] = {}
        """The versions that are newer than what was seen; `wait_for_change` returns at once while
        there are any."""
        self._stopped = False

    def set_seen(self, seen_versions: Mapping[UUID, JobVersion]) -> None:
        """Set the versions that were just read; jobs that are left out are no longer watched."""
        self.seen = dict(seen_versions)
        self.changed_versions = {
            job_id: version
            for job_id, version in self.changed_versions.items()
            if job_id in seen_versions and version > seen_versions[job_id].version
        }
        if not self.changed_versions and not self._stopped:
            self._changed = anyio.Event()

    def notify_version(self, job_id: UUID, version: int) -> None:
        """Take a notification; it counts if the version is newer than what was seen.

        Before the first `set_seen` every notification counts, as the reader may have read earlier.
        """
        seen = self.seen.get(job_id)
        if seen is None and self.seen:
            return
        if seen is None or version > seen.version:
            self.changed_versions[job_id] = max(version, self.changed_versions.get(job_id, 0))
            self._changed.set()

    @override
    def compare(self, resource_id: UUID, current: JobVersion | None) -> None:
        """Compare a poll with what was seen; an older version is a late read, and no change."""
        seen = self.seen.get(resource_id)
        if seen is None or current == seen or (current and current.version < seen.version):
            return
        self.changed_versions[resource_id] = seen.version if current is None else current.version
        self._changed.set()

    def stop(self) -> None:
        """End the current wait, and every later one at once."""
        self._stopped = True
        self._changed.set()

    @override
    async def wait_for_change(self) -> frozenset[UUID]:
        """Wait until jobs may have changed, and return them; none: the process is stopping."""
        await self._changed.wait()
        return frozenset(self.changed_versions)


class PageWatcher(Watcher[str]):
    """Watches logs (by the ids of their jobs) and workspaces, by digests of their pages.

    An absent page is a value as well: an empty log has no row. Each change is returned once, as
    the reader passes it on without reading the page.
    """

    def __init__(self, subject_id: str, page_ids: Iterable[UUID]) -> None:
        super().__init__(subject_id, page_ids)
        self._changed_ids: set[UUID] = set()

    def set_seen(self, digests: Mapping[UUID, str]) -> None:
        """Set how the pages were at first; until then nothing is compared."""
        self.seen = {page_id: digests.get(page_id) for page_id in self.ids}

    @override
    def compare(self, resource_id: UUID, current: str | None) -> None:
        """Compare a poll with the one before."""
        if current != self.seen[resource_id]:
            self.seen[resource_id] = current
            self._changed_ids.add(resource_id)
            self._changed.set()

    @override
    async def wait_for_change(self) -> frozenset[UUID]:
        """Wait until pages have changed, and return those that did since the last return."""
        await self._changed.wait()
        changed_ids = frozenset(self._changed_ids)
        self._changed_ids.clear()
        self._changed = anyio.Event()
        return changed_ids


class WatcherRegistry(Generic[_WatcherT]):
    """The watchers of one kind in this process, and how their values are polled."""

    def __init__(
        self,
        probe: Callable[[AbstractSet[_SubjectAndId]], Awaitable[Mapping[_SubjectAndId, Any]]],
        *,
        failure_event: str,
    ) -> None:
        """Make an empty registry.

        Args:
            probe: reads the current values, each as the subject that watches it; what that subject
                cannot see is left out.
            failure_event: the log event of a poll that failed.
        """
        self._probe = probe
        self._failure_event = failure_event
        self._watchers_by_id: defaultdict[UUID, set[_WatcherT]] = defaultdict(set)
        self._has_watchers = anyio.Event()

    @contextmanager
    def register(self, watcher: _WatcherT) -> Generator[_WatcherT]:
        """Keep a watcher up to date for the length of the block."""
        for resource_id in watcher.ids:
            self._watchers_by_id[resource_id].add(watcher)
        if watcher.ids:
            self._has_watchers.set()
        try:
            yield watcher
        finally:
            for resource_id in watcher.ids:
                self._watchers_by_id[resource_id].discard(watcher)
                if not self._watchers_by_id[resource_id]:
                    del self._watchers_by_id[resource_id]
            if not self._watchers_by_id:
                self._has_watchers = anyio.Event()

    @property
    def watchers(self) -> set[_WatcherT]:
        """Every registered watcher that watches something."""
        return {watcher for watchers in self._watchers_by_id.values() for watcher in watchers}

    def find_watchers(self, resource_id: UUID) -> AbstractSet[_WatcherT]:
        """Return the watchers of one id."""
        return self._watchers_by_id.get(resource_id, set())

    async def poll(self) -> None:
        """Read everything that is watched once, and let each watcher compare.

        Whoever registers, or goes on to other ids, during the read is served by the next poll.
        """
        watched = [
            (watcher, resource_id) for watcher in self.watchers for resource_id in watcher.seen
        ]
        if not watched:
            return
        current = await self._probe(
            {(watcher.subject_id, resource_id) for watcher, resource_id in watched}
        )
        for watcher, resource_id in watched:
            watcher.compare(resource_id, current.get((watcher.subject_id, resource_id)))

    async def poll_forever(self, interval: timedelta = POLL_INTERVAL) -> None:
        """Poll again and again while there are watchers; an outage of Postgres is logged."""
        while True:
            await self._has_watchers.wait()
            await anyio.sleep(interval.total_seconds())
            try:
                await self.poll()
            except Unavailable as error:
                log.warning(self._failure_event, error=str(error))


class Watch:
    """Everything that is watched in this process."""

    def __init__(self, database: TenantDatabase) -> None:
        self._database = database
        self.reads = SharedReads()
        """What several watchers read together, when the same change has woken them."""
        self.jobs = WatcherRegistry[JobWatcher](
            self._read_job_versions, failure_event="waiting.not_looked"
        )
        self.pages = WatcherRegistry[PageWatcher](
            self._read_page_digests, failure_event="following.not_looked"
        )
        self.is_stopping = False
        """Whether nobody is to wait any more, because the process was told to stop."""
        self._stopped = anyio.Event()

    @contextmanager
    def watch_jobs(self, subject_id: str, job_ids: Iterable[UUID]) -> Generator[JobWatcher]:
        """Watch jobs as a subject; read them inside the block, then call `set_seen`."""
        with self.jobs.register(JobWatcher(subject_id, job_ids)) as watcher:
            if self.is_stopping:
                watcher.stop()
            yield watcher

    @contextmanager
    def watch_pages(self, subject_id: str, page_ids: Iterable[UUID]) -> Generator[PageWatcher]:
        """Watch logs and workspaces as a subject; read them inside, then call `set_seen`."""
        with self.pages.register(PageWatcher(subject_id, page_ids)) as watcher:
            yield watcher

    def notify_changed(self, versions: Mapping[UUID, int]) -> None:
        """Pass the new versions of jobs on to whoever watches them."""
        for job_id, version in versions.items():
            for watcher in self.jobs.find_watchers(job_id):
                watcher.notify_version(job_id, version)

    def stop(self) -> None:
        """End every wait for jobs, now and from now on."""
        self.is_stopping = True
        self._stopped.set()
        for watcher in self.jobs.watchers:
            watcher.stop()

    async def wait_until_stopped(self) -> None:
        """Wait until `stop` is called."""
        await self._stopped.wait()

    async def _read_job_versions(
        self, watched: AbstractSet[_SubjectAndId]
    ) -> Mapping[_SubjectAndId, JobVersion]:
        async with self._database.transaction() as tx:
            return await changes.read_versions(tx, watched)

    async def _read_page_digests(
        self, watched: AbstractSet[_SubjectAndId]
    ) -> Mapping[_SubjectAndId, str]:
        ids_by_subject: defaultdict[str, set[UUID]] = defaultdict(set)
        for subject_id, page_id in watched:
            ids_by_subject[subject_id].add(page_id)
        digests: dict[_SubjectAndId, str] = {}
        for subject_id, page_ids in ids_by_subject.items():
            async with self._database.as_subject(subject_id) as (tx, _):
                by_id = await changes.read_page_versions(tx, subject_id, page_ids)
            digests |= {(subject_id, page_id): digest for page_id, digest in by_id.items()}
        return digests


@asynccontextmanager
async def open_watch(redis_url: str, database: TenantDatabase) -> AsyncGenerator[Watch]:
    """Poll for watchers, and pass notifications on to them while Valkey can be reached."""
    watch = Watch(database)
    async with run_in_background(
        change_notifications.listen_for_changes(redis_url, watch.notify_changed),
        watch.jobs.poll_forever(),
        watch.pages.poll_forever(),
    ):
        yield watch
