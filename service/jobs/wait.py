"""How does a call wait for jobs? Until what it asked for holds, or it has waited long enough.

It enters the waiters before it reads, so that nothing happens unseen in between; it reads again
only when told that something may have changed; and it holds no connection while it waits.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

import anyio

from schema.accounts.tables import Hold
from schema.common import ids as common_ids
from schema.common.durations import say
from schema.common.errors import Invalid
from schema.common.ids import Kind
from schema.db.database import Transaction
from schema.jobs import changes as job_changes
from schema.jobs.changes import Mark
from schema.jobs.queries import JobStatus
from service.auth.caller import Caller
from service.jobs import operations
from service.mcp.dependencies import Progress
from service.runtime.context import App
from service.views import job_summary
from service.views.jobs import HandleError, JobView, WaitView

_KEEP_ALIVE: Final = timedelta(seconds=10)
"""A client that is told nothing for longer may take us for dead."""


class Mode(StrEnum):
    """For how many of the jobs it has to hold."""

    ANY = "any"
    ALL = "all"


class Until(StrEnum):
    """What is waited for."""

    CHANGE = "change"
    """Something a person would care about: state, stage, hold, reason, stopping or stopped."""

    TERMINAL = "terminal"
    """That nothing will change any more."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a call waits for; `since` has versions that were seen, by handle."""

    mode: Mode
    until: Until
    since: Mapping[str, int]
    timeout: timedelta


def seen(job_ids: list[str], since_version: int | Mapping[str, int] | None) -> Mapping[str, int]:
    """Say which version of which job the caller has seen.

    Raises:
        Invalid: it is about another job, or does not say about which.
    """
    if since_version is None:
        return {}
    if isinstance(since_version, int):
        if len(set(job_ids)) > 1:
            raise Invalid(
                "Versions count the changes of one job; with several job_ids, write since_version "
                'as {"job_…": 3, "job_…": 5}.'
            )
        return {job_ids[0]: since_version}
    if strange := sorted(since_version.keys() - set(job_ids)):
        raise Invalid(f"since_version names {strange[0]}, which is not one of job_ids.")
    return since_version


@dataclass(frozen=True, slots=True)
class _Look:
    """How everything that is waited for stood at one moment."""

    statuses: Mapping[str, JobStatus]
    views: list[JobView]
    errors: list[HandleError]
    changed: frozenset[str]
    at: float

    @property
    def open(self) -> list[str]:
        """The jobs that may change yet."""
        return [handle for handle, status in self.statuses.items() if not status.settled]

    @property
    def summaries(self) -> list[str]:
        """What a person would be told of each."""
        return [view.summary for view in self.views]

    def marks(self) -> dict[UUID, Mark]:
        """Say what was seen of the jobs that may change yet."""
        seen = [self.statuses[handle] for handle in self.open]
        return {status.id: Mark(status.version, status.hold) for status in seen}

    def answers(self, terms: Terms) -> bool:
        """Say whether what is waited for holds; what will not change holds nobody up."""
        settled = self.statuses.keys() - set(self.open)
        met = settled if terms.until is Until.TERMINAL else self.changed
        return (terms.mode is Mode.ANY and bool(met)) or met.issuperset(self.open)

    def sentence(self) -> str:
        """Say how it goes, for somebody who watches."""
        if len(self.statuses) == 1:
            [status] = self.statuses.values()
            past = status.read_at - (status.started_at or status.created_at)
            past += timedelta(seconds=anyio.current_time() - self.at)
            return f"{job_summary.summary(status)} {say(max(past, timedelta(0)))} so far."
        states = Counter(status.state for status in self.statuses.values())
        return ", ".join(f"{count} {state}" for state, count in states.items())


class _Watch:
    """Looks at the jobs of one call, and remembers how they stood when it came."""

    def __init__(
        self, app: App, caller: Caller, wanted: list[str], since: Mapping[str, int]
    ) -> None:
        self._app = app
        self._caller = caller
        self._wanted = wanted
        self._since = since
        self._held: dict[str, Hold | None] | None = None

    async def first(self) -> _Look:
        """Look as any call does, which may bring the token that the jobs are waiting for."""
        return await self._look(self._app.transaction(self._caller))

    async def again(self) -> _Look:
        """Look without asking anybody but the database."""
        return await self._look(self._reading())

    async def _look(self, reading: AbstractAsyncContextManager[Transaction]) -> _Look:
        async with reading as tx:
            found, errors = await operations.find_each(tx, self._caller, self._wanted)
            if self._held is None:
                self._held = {handle: status.hold for handle, status in found.items()}
                versions = {handle: status.version for handle, status in found.items()}
                self._since = versions | {
                    handle: version for handle, version in self._since.items() if handle in found
                }
            since = {
                found[handle].id: version
                for handle, version in self._since.items()
                if handle in found
            }
            fresh = await job_changes.news(tx, self._caller.subject_id, since)
            views = await operations.show_each(tx, self._app, list(found.values()))
        changed = frozenset(
            handle
            for handle, status in found.items()
            if status.id in fresh or (not status.settled and status.hold != self._held[handle])
        )
        return _Look(found, views, errors, changed, anyio.current_time())

    @asynccontextmanager
    async def _reading(self) -> AsyncGenerator[Transaction]:
        async with self._app.ground.acting_for(self._caller.subject_id) as (tx, _):
            yield tx


async def wait(
    app: App, caller: Caller, wanted: list[str], terms: Terms, progress: Progress
) -> WaitView:
    """Wait for jobs; answer at once if there is nothing to wait for, or we are about to stop.

    Raises:
        TooManyWaits: the caller has as many waits under way as they may.
    """
    watch = _Watch(app, caller, wanted, terms.since)
    began = anyio.current_time()
    deadline = began + terms.timeout.total_seconds()
    async with app.turns.one(caller.subject_id, within=terms.timeout):
        with app.waiting.on(caller.subject_id, _ids(wanted)) as changes:
            look = await watch.first()
            changes.saw(look.marks())
            telling, late = True, False
            while not (late or look.answers(terms) or app.waiting.stopping):
                if telling:
                    spent = timedelta(seconds=anyio.current_time() - began)
                    await progress.tell(spent, terms.timeout, look.sentence())
                pause = min(_KEEP_ALIVE.total_seconds(), deadline - anyio.current_time())
                with anyio.move_on_after(pause) as silence:
                    await changes.next()
                late, before = anyio.current_time() >= deadline, look
                if late or not silence.cancelled_caught:
                    look = await watch.again()
                    changes.saw(look.marks())
                telling = silence.cancelled_caught or look.summaries != before.summaries
    return _view(look, terms)


async def look(app: App, caller: Caller, wanted: list[str], terms: Terms) -> WaitView:
    """Answer at once, as a wait in vain does."""
    return _view(await _Watch(app, caller, wanted, terms.since).first(), terms)


def ended(view: JobView) -> WaitView:
    """Answer a wait for the end of one job, which has come since the call did."""
    return WaitView(
        jobs=[view],
        errors=[],
        changed=[view.job_id],
        done=view.poll_after_seconds is None,
        timed_out=False,
        next_step=view.next_step,
    )


def _ids(wanted: list[str]) -> set[UUID]:
    """Read the handles that can be read; the others are refused when the jobs are looked for."""
    ids: set[UUID] = set()
    for handle in wanted:
        with suppress(Invalid):
            ids.add(common_ids.read(Kind.JOB, handle))
    return ids


def _view(look: _Look, terms: Terms) -> WaitView:
    return WaitView(
        jobs=look.views,
        errors=look.errors,
        changed=[handle for handle in look.statuses if handle in look.changed],
        done=not look.open,
        timed_out=not look.answers(terms),
        next_step=_next_step(look, terms),
    )


def _next_step(look: _Look, terms: Terms) -> str:
    """Name the next call: the same for what may change yet, from what is shown here on."""
    if not look.open:
        if len(look.views) == 1:
            return look.views[0].next_step
        return "Nothing of this will change any more; next_step of each job says what is left."
    versions = {handle: look.statuses[handle].version for handle in look.open}
    [first, *others] = look.open
    several = bool(others)
    chosen = ", ".join(f'"{handle}"' for handle in look.open)
    told = ", ".join(f'"{handle}": {version}' for handle, version in versions.items())
    given = [f"job_ids=[{chosen}]" if several else f"job_ids={chosen}"]
    given += [f'mode="{terms.mode}"'] if several else []
    given += [f'until="{terms.until}"']
    given += [f"since_version={{{told}}}" if several else f"since_version={versions[first]}"]
    return f"Call wait_for_jobs({', '.join(given)}) to wait on."
