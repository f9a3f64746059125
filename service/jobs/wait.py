"""How does a call wait for jobs? Until what it asked for holds, or it has waited long enough.

It enters the waiters before it reads, so that nothing happens unseen in between; it reads again
only when told that something may have changed; and it holds no connection while it waits.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

import anyio

from schema.accounts.tables import Hold
from schema.common import ids as common_ids
from schema.common.durations import format_duration
from schema.common.errors import Invalid
from schema.common.ids import HandleKind
from schema.db.database import Transaction
from schema.jobs import changes as job_changes
from schema.jobs.changes import JobVersion
from schema.jobs.queries import JobStatus
from service.auth.caller import Caller
from service.jobs import operations
from service.runtime.context import App
from service.views import job_summary
from service.views.jobs import HandleError, JobView, WaitView

ReportProgress = Callable[[timedelta, timedelta, str], Awaitable[None]]
"""Called with the time that a wait has taken, the time it may take, and how things stand."""

_PROGRESS_INTERVAL: Final = timedelta(seconds=10)
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
class WaitCondition:
    """What a call waits for; `since` has versions that were seen, by handle."""

    mode: Mode
    until: Until
    seen_versions: Mapping[str, int]
    timeout: timedelta


def parse_seen_versions(
    job_ids: list[str], since_version: int | Mapping[str, int] | None
) -> Mapping[str, int]:
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
class _Snapshot:
    """How everything that is waited for stood at one moment."""

    statuses: Mapping[str, JobStatus]
    views: list[JobView]
    errors: list[HandleError]
    changed: frozenset[str]
    read_at_seconds: float

    @property
    def open_handles(self) -> list[str]:
        """The jobs that may change yet."""
        return [handle for handle, status in self.statuses.items() if not status.is_settled]

    @property
    def summaries(self) -> list[str]:
        """What a person would be told of each."""
        return [view.summary for view in self.views]

    def open_versions(self) -> dict[UUID, JobVersion]:
        """Say what was seen of the jobs that may change yet."""
        seen = [self.statuses[handle] for handle in self.open_handles]
        return {status.id: JobVersion(status.version, status.hold) for status in seen}

    def satisfies(self, condition: WaitCondition) -> bool:
        """Say whether what is waited for holds; what will not change holds nobody up."""
        settled = self.statuses.keys() - set(self.open_handles)
        met = settled if condition.until is Until.TERMINAL else self.changed
        return (condition.mode is Mode.ANY and bool(met)) or met.issuperset(self.open_handles)

    def describe(self) -> str:
        """Say how it goes, for somebody who watches."""
        if len(self.statuses) == 1:
            [status] = self.statuses.values()
            past = status.read_at - (status.started_at or status.created_at)
            past += timedelta(seconds=anyio.current_time() - self.read_at_seconds)
            return (
                f"{job_summary.summarize_job(status)} {format_duration(max(past, timedelta(0)))} "
                "so far."
            )
        states = Counter(status.state for status in self.statuses.values())
        return ", ".join(f"{count} {state}" for state, count in states.items())


class _JobReader:
    """Looks at the jobs of one call, and remembers how they stood when it came."""

    def __init__(
        self, app: App, caller: Caller, job_handles: list[str], seen_versions: Mapping[str, int]
    ) -> None:
        self._app = app
        self._caller = caller
        self._job_handles = job_handles
        self._seen_versions = seen_versions
        self._initial_holds: dict[str, Hold | None] | None = None

    async def read_first(self) -> _Snapshot:
        """Look as any call does, which may bring the token that the jobs are waiting for."""
        return await self._read_snapshot(self._app.transaction(self._caller))

    async def read_again(self) -> _Snapshot:
        """Look without asking anybody but the database."""
        return await self._read_snapshot(self._open_transaction())

    async def _read_snapshot(
        self, open_transaction: AbstractAsyncContextManager[Transaction]
    ) -> _Snapshot:
        async with open_transaction as tx:
            found, errors = await operations.find_jobs(tx, self._caller, self._job_handles)
            if self._initial_holds is None:
                self._initial_holds = {handle: status.hold for handle, status in found.items()}
                versions = {handle: status.version for handle, status in found.items()}
                self._seen_versions = versions | {
                    handle: version
                    for handle, version in self._seen_versions.items()
                    if handle in found
                }
            since = {
                found[handle].id: version
                for handle, version in self._seen_versions.items()
                if handle in found
            }
            fresh = await job_changes.changed_jobs(tx, self._caller.subject_id, since)
            views = await operations.build_job_views(tx, self._app, list(found.values()))
        changed = frozenset(
            handle
            for handle, status in found.items()
            if status.id in fresh
            or (not status.is_settled and status.hold != self._initial_holds[handle])
        )
        return _Snapshot(found, views, errors, changed, anyio.current_time())

    @asynccontextmanager
    async def _open_transaction(self) -> AsyncGenerator[Transaction]:
        async with self._app.database.as_subject(self._caller.subject_id) as (tx, _):
            yield tx


async def wait_for_jobs(
    app: App,
    caller: Caller,
    job_handles: list[str],
    condition: WaitCondition,
    report_progress: ReportProgress,
) -> WaitView:
    """Wait for jobs; answer at once if there is nothing to wait for, or we are about to stop.

    Raises:
        TooManyWaits: the caller has as many waits under way as they may.
    """
    watch = _JobReader(app, caller, job_handles, condition.seen_versions)
    began = anyio.current_time()
    deadline = began + condition.timeout.total_seconds()
    async with app.wait_slots.acquire(caller.subject_id, duration=condition.timeout):
        with app.watch.watch_jobs(caller.subject_id, _parse_job_ids(job_handles)) as changes:
            look = await watch.read_first()
            changes.set_seen(look.open_versions())
            telling, late = True, False
            while not (late or look.satisfies(condition) or app.watch.is_stopping):
                if telling:
                    spent = timedelta(seconds=anyio.current_time() - began)
                    await report_progress(spent, condition.timeout, look.describe())
                pause = min(_PROGRESS_INTERVAL.total_seconds(), deadline - anyio.current_time())
                with anyio.move_on_after(pause) as silence:
                    await changes.wait_for_change()
                late, before = anyio.current_time() >= deadline, look
                if late or not silence.cancelled_caught:
                    look = await watch.read_again()
                    changes.set_seen(look.open_versions())
                telling = silence.cancelled_caught or look.summaries != before.summaries
    return _build_view(look, condition)


async def check_jobs(
    app: App, caller: Caller, job_handles: list[str], condition: WaitCondition
) -> WaitView:
    """Answer at once, as a wait in vain does."""
    return _build_view(
        await _JobReader(app, caller, job_handles, condition.seen_versions).read_first(), condition
    )


def build_final_view(job: JobView) -> WaitView:
    """Answer a wait for the end of one job, which has come since the call did."""
    return WaitView(
        jobs=[job],
        errors=[],
        changed=[job.job_id],
        done=job.poll_after_seconds is None,
        timed_out=False,
        next_step=job.next_step,
    )


def _parse_job_ids(job_handles: list[str]) -> set[UUID]:
    """Read the handles that can be read; the others are refused when the jobs are looked for."""
    ids: set[UUID] = set()
    for handle in job_handles:
        with suppress(Invalid):
            ids.add(common_ids.parse_handle(HandleKind.JOB, handle))
    return ids


def _build_view(snapshot: _Snapshot, condition: WaitCondition) -> WaitView:
    return WaitView(
        jobs=snapshot.views,
        errors=snapshot.errors,
        changed=[handle for handle in snapshot.statuses if handle in snapshot.changed],
        done=not snapshot.open_handles,
        timed_out=not snapshot.satisfies(condition),
        next_step=_next_step(snapshot, condition),
    )


def _next_step(snapshot: _Snapshot, condition: WaitCondition) -> str:
    """Name the next call: the same for what may change yet, from what is shown here on."""
    if not snapshot.open_handles:
        if len(snapshot.views) == 1:
            return snapshot.views[0].next_step
        return "Nothing of this will change any more; next_step of each job says what is left."
    versions = {handle: snapshot.statuses[handle].version for handle in snapshot.open_handles}
    [first, *others] = snapshot.open_handles
    several = bool(others)
    chosen = ", ".join(f'"{handle}"' for handle in snapshot.open_handles)
    told = ", ".join(f'"{handle}": {version}' for handle, version in versions.items())
    given = [f"job_ids=[{chosen}]" if several else f"job_ids={chosen}"]
    given += [f'mode="{condition.mode}"'] if several else []
    given += [f'until="{condition.until}"']
    given += [f"since_version={{{told}}}" if several else f"since_version={versions[first]}"]
    return f"Call wait_for_jobs({', '.join(given)}) to wait on."
