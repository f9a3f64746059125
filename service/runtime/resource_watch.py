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
from service.database import Ground
from service.workspaces.views import NEWEST

EVERY: Final = timedelta(seconds=1)
"""How often what is followed is looked at."""

log = structlog.stdlib.get_logger()


class Follower:
    """What one follower has seen of logs, by their jobs, and of workspaces."""

    def __init__(self, subject_id: str, followed: Iterable[UUID]) -> None:
        self.subject_id = subject_id
        self.followed = frozenset(followed)
        self._seen: Mapping[UUID, str] | None = None
        self._told: set[UUID] = set()
        self._some = anyio.Event()

    def saw(self, seen: Mapping[UUID, str]) -> None:
        """Say how everything was when it was read first."""
        self._seen = seen

    def look(self, found: Mapping[UUID, str]) -> None:
        """Say how everything was just found."""
        if self._seen is None:
            return
        changed = {each for each in self.followed if found.get(each) != self._seen.get(each)}
        self._seen = found
        if changed:
            self._told |= changed
            self._some.set()

    async def next(self) -> frozenset[UUID]:
        """Wait until some of it has changed."""
        await self._some.wait()
        told, self._told, self._some = frozenset(self._told), set[UUID](), anyio.Event()
        return told


class Following:
    """The followers of one process."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._followers: set[Follower] = set()
        self._somebody = anyio.Event()

    @contextmanager
    def on(self, subject_id: str, followed: Iterable[UUID]) -> Generator[Follower]:
        """Follow logs and workspaces as a subject; then say what was `saw`n."""
        follower = Follower(subject_id, followed)
        if follower.followed:
            self._followers.add(follower)
            self._somebody.set()
        try:
            yield follower
        finally:
            self._followers.discard(follower)
            if not self._followers:
                self._somebody = anyio.Event()

    async def look(self) -> None:
        """Look at everything that is followed, and pass on what is not as it was."""
        by_subject: defaultdict[str, set[Follower]] = defaultdict(set)
        for follower in self._followers:
            by_subject[follower.subject_id].add(follower)
        for subject_id, followers in by_subject.items():
            wanted = frozenset[UUID]().union(*(each.followed for each in followers))
            async with self._ground.acting_for(subject_id) as (tx, _):
                found = await changes.pages(tx, subject_id, wanted, newest=NEWEST)
            for follower in followers:
                follower.look(found)

    async def look_for_ever(self, every: timedelta = EVERY) -> None:
        """Look again and again, while anybody follows anything."""
        while True:
            await self._somebody.wait()
            await anyio.sleep(every.total_seconds())
            try:
                await self.look()
            except Unavailable as error:
                log.warning("following.not_looked", error=str(error))


@asynccontextmanager
async def following(ground: Ground) -> AsyncGenerator[Following]:
    """Serve followers."""
    followers = Following(ground)
    async with anyio.create_task_group() as serving:
        serving.start_soon(followers.look_for_ever)
        yield followers
        serving.cancel_scope.cancel()
