"""Who in this process follows which log and which workspace, and how do they hear of changes?

By looking, once a second, for everything that anybody here follows: one statement for each subject,
and none while nobody follows anything. Of the jobs themselves `service.runtime.job_watch` tells,
which hears of them sooner. Nothing here knows of MCP.
"""

from collections import defaultdict
from collections.abc import AsyncGenerator, Generator, Iterable, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Final
from uuid import UUID

import anyio
import structlog

from schema.common.errors import Unavailable
from schema.jobs import changes
from service.database import TenantDatabase
from service.workspaces.views import MAX_LATEST_JOBS

POLL_INTERVAL: Final = timedelta(seconds=1)
"""How often what is followed is looked at."""

log = structlog.stdlib.get_logger()


class ResourceWatcher:
    """What one follower has seen of logs, by their jobs, and of workspaces."""

    def __init__(self, subject_id: str, resource_ids: Iterable[UUID]) -> None:
        self.subject_id = subject_id
        self.resource_ids = frozenset(resource_ids)
        self._seen: Mapping[UUID, str] | None = None
        self._changed_ids: set[UUID] = set()
        self._changed = anyio.Event()

    def set_seen(self, digests: Mapping[UUID, str]) -> None:
        """Say how everything was when it was read first."""
        self._seen = digests

    def compare(self, current: Mapping[UUID, str]) -> None:
        """Say how everything was just found."""
        if self._seen is None:
            return
        changed = {each for each in self.resource_ids if current.get(each) != self._seen.get(each)}
        self._seen = current
        if changed:
            self._changed_ids |= changed
            self._changed.set()

    async def wait_for_change(self) -> frozenset[UUID]:
        """Wait until some of it has changed."""
        await self._changed.wait()
        told, self._changed_ids, self._changed = (
            frozenset(self._changed_ids),
            set[UUID](),
            anyio.Event(),
        )
        return told


class ResourceWatchRegistry:
    """The followers of one process."""

    def __init__(self, database: TenantDatabase) -> None:
        self._database = database
        self._watchers: set[ResourceWatcher] = set()
        self._has_watchers = anyio.Event()

    @contextmanager
    def watch(self, subject_id: str, resource_ids: Iterable[UUID]) -> Generator[ResourceWatcher]:
        """Follow logs and workspaces as a subject; then say what was `saw`n."""
        follower = ResourceWatcher(subject_id, resource_ids)
        if follower.resource_ids:
            self._watchers.add(follower)
            self._has_watchers.set()
        try:
            yield follower
        finally:
            self._watchers.discard(follower)
            if not self._watchers:
                self._has_watchers = anyio.Event()

    async def poll(self) -> None:
        """Look at everything that is followed, and pass on what is not as it was."""
        by_subject: defaultdict[str, set[ResourceWatcher]] = defaultdict(set)
        for follower in self._watchers:
            by_subject[follower.subject_id].add(follower)
        for subject_id, followers in by_subject.items():
            wanted = frozenset[UUID]().union(*(each.resource_ids for each in followers))
            async with self._database.as_subject(subject_id) as (tx, _):
                found = await changes.read_page_versions(
                    tx, subject_id, wanted, max_jobs=MAX_LATEST_JOBS
                )
            for follower in followers:
                follower.compare(found)

    async def poll_forever(self, interval: timedelta = POLL_INTERVAL) -> None:
        """Look again and again, while anybody follows anything."""
        while True:
            await self._has_watchers.wait()
            await anyio.sleep(interval.total_seconds())
            try:
                await self.poll()
            except Unavailable as error:
                log.warning("following.not_looked", error=str(error))


@asynccontextmanager
async def open_resource_watch(database: TenantDatabase) -> AsyncGenerator[ResourceWatchRegistry]:
    """Serve followers."""
    followers = ResourceWatchRegistry(database)
    async with anyio.create_task_group() as serving:
        serving.start_soon(followers.poll_forever)
        yield followers
        serving.cancel_scope.cancel()
