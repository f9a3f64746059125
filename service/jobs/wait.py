"""The wait of a call for jobs: until its condition holds, or its time is up.

A wait registers its watch before it reads, so that it misses no change in between. It reads again
only when the watch says that something may have changed, and shares that read with the waits of the
same subject for the same jobs. It holds no connection while it waits.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

import anyio

from schema.accounts.tables import Hold
from schema.common import ids as common_ids
from schema.common.durations import format_duration
from schema.common.errors import Invalid, Unavailable
from schema.common.ids import HandleKind
from schema.db.database import Transaction
from schema.jobs.monitoring import changes as job_changes
from schema.jobs.monitoring.changes import JobVersion
from schema.jobs.queries import JobStatus
from service.auth.caller import Caller
from service.jobs import operations
from service.runtime.context import App
from service.views import job_summary
from service.views.jobs import HandleError, JobEntry, JobView, WaitView

ReportProgress = Callable[[timedelta, timedelta, str], Awaitable[None]]
"""Called with the time that a wait has taken, the time it may take, and how things stand."""

_PROGRESS_INTERVAL: Final = timedelta(seconds=10)
"""A client that hears nothing for longer may take the service for dead."""


class Mode(StrEnum):
    """For how many of the jobs the condition has to hold."""

    ANY = "any"
    ALL = "all"


class Until(StrEnum):
    """What a call waits for."""

    CHANGE = "change"
    """A change that matters to a person: of state, stage, hold, reason, stopping or stopped."""

    TERMINAL = "terminal"
    """The end: nothing will change any more."""


@dataclass(frozen=True, slots=True)
class WaitCondition:
    """What a call waits for; `seen_versions` are versions of jobs by their handles."""

    mode: Mode
    until: Until
    seen_versions: Mapping[str, int]
    timeout: timedelta
    marks_seen: bool = True
    """Whether the call names the jobs by their handles, and so has seen the ends that it shows."""


def parse_seen_versions(
    job_ids: list[str], since_version: int | Mapping[str, int] | None
) -> Mapping[str, int]:
    """Return the versions that the caller has seen, by handle.

    Raises:
        Invalid: a version is of a job that the call does not name, or of which of several is open.
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
    versions = {handle.strip(): version for handle, version in since_version.items()}
    if unknown := sorted(versions.keys() - set(job_ids)):
        raise Invalid(f"since_version names {unknown[0]}, which is not one of job_ids.")
    return versions


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The state of all jobs of a wait at one moment."""

    statuses: Mapping[str, JobStatus]
    views: list[JobView | JobEntry]
    errors: list[HandleError]
    changed: frozenset[str]
    read_at_seconds: float

    @property
    def open_handles(self) -> list[str]:
        """The jobs that may change yet."""
        return [handle for handle, status in self.statuses.items() if not status.is_settled]

    @property
    def summaries(self) -> list[str]:
        """The sentence about each job that a person reads."""
        return [view.summary for view in self.views]

    def open_versions(self) -> dict[UUID, JobVersion]:
        """Return the versions of the jobs that may change yet."""
        statuses = [self.statuses[handle] for handle in self.open_handles]
        return {status.id: JobVersion(status.version, status.hold) for status in statuses}

    def satisfies(self, condition: WaitCondition) -> bool:
        """Say whether the condition holds; a job that will not change any more holds nothing up."""
        settled = self.statuses.keys() - set(self.open_handles)
        met = settled if condition.until is Until.TERMINAL else self.changed
        return (condition.mode is Mode.ANY and bool(met)) or met.issuperset(self.open_handles)

    def describe(self) -> str:
        """Say how things stand, for a person who watches."""
        if len(self.statuses) == 1:
            [status] = self.statuses.values()
            elapsed = status.read_at - (status.started_at or status.created_at)
            elapsed += timedelta(seconds=anyio.current_time() - self.read_at_seconds)
            duration = format_duration(max(elapsed, timedelta(0)))
            return f"{job_summary.summarize_job(status)} {duration} so far."
        states = Counter(status.state for status in self.statuses.values())
        return ", ".join(f"{count} {state}" for state, count in states.items())


@dataclass(frozen=True, slots=True)
class _JobsRead:
    """What a read of jobs has found: the same for each wait of a subject that has seen the same."""

    statuses: Mapping[str, JobStatus]
    views: list[JobView | JobEntry]
    errors: list[HandleError]
    changed_ids: frozenset[UUID]
    seen_versions: Mapping[str, int]
    """Of the jobs that were found: those of the call, and else those of this read."""


class _JobReader:
    """Reads the jobs of one call, and remembers their state at the first read."""

    def __init__(
        self, app: App, caller: Caller, job_handles: list[str], seen_versions: Mapping[str, int]
    ) -> None:
        self._app = app
        self._caller = caller
        self._job_handles = job_handles
        self._seen_versions = seen_versions
        self._initial_holds: dict[str, Hold | None] | None = None

    async def read_first(self) -> _Snapshot:
        """Read as any call does: its token may release jobs that are held for want of one."""
        async with self._app.transaction(self._caller) as tx:
            jobs = await self._read_jobs(tx)
        return self._build_snapshot(jobs)

    async def read_again(self) -> _Snapshot:
        """Read, and ask nobody except the database; together with whoever waits for the same."""
        key = (tuple(self._job_handles), frozenset(self._seen_versions.items()))
        jobs = await self._app.watch.reads.read(
            self._caller.subject_id, key, self._open_transaction, self._read_jobs
        )
        return self._build_snapshot(jobs)

    async def _read_jobs(self, tx: Transaction) -> _JobsRead:
        """Read all that depends on the subject, the handles and the versions seen, and no more."""
        statuses, errors = await operations.find_jobs(tx, self._caller, self._job_handles)
        versions = {handle: status.version for handle, status in statuses.items()}
        seen_versions = versions | {
            handle: version for handle, version in self._seen_versions.items() if handle in statuses
        }
        since = {statuses[handle].id: version for handle, version in seen_versions.items()}
        shown = {status.id: status.version for status in statuses.values()}
        changed_ids = await job_changes.changed_jobs(tx, self._caller.subject_id, since, shown)
        views = await operations.show_jobs(tx, self._app, list(statuses.values()))
        return _JobsRead(statuses, views, errors, changed_ids, seen_versions)

    def _build_snapshot(self, jobs: _JobsRead) -> _Snapshot:
        if self._initial_holds is None:
            self._initial_holds = {}
            self._seen_versions = jobs.seen_versions
        for handle, status in jobs.statuses.items():  # a launch may be committed between two reads
            self._initial_holds.setdefault(handle, status.hold)
        changed = frozenset(
            handle
            for handle, status in jobs.statuses.items()
            if status.id in jobs.changed_ids
            or (not status.is_settled and status.hold != self._initial_holds[handle])
        )
        return _Snapshot(
            jobs.statuses, [*jobs.views], [*jobs.errors], changed, anyio.current_time()
        )

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
    """Wait for jobs; answer at once if the condition holds, or the service is about to stop.

    Raises:
        TooManyWaits: the caller has as many waits under way as they may.
    """
    reader = _JobReader(app, caller, job_handles, condition.seen_versions)
    started = anyio.current_time()
    deadline = started + condition.timeout.total_seconds()
    async with app.wait_slots.acquire(caller.subject_id, duration=condition.timeout):
        with app.watch.watch_jobs(caller.subject_id, _parse_job_ids(job_handles)) as changes:
            snapshot = await reader.read_first()
            changes.set_seen(snapshot.open_versions())
            report_due, timed_out = True, False
            while not (timed_out or snapshot.satisfies(condition) or app.watch.is_stopping):
                if report_due:
                    elapsed = timedelta(seconds=anyio.current_time() - started)
                    await report_progress(elapsed, condition.timeout, snapshot.describe())
                pause = min(_PROGRESS_INTERVAL.total_seconds(), deadline - anyio.current_time())
                with anyio.move_on_after(pause) as pause_scope:
                    await changes.wait_for_change()
                timed_out, earlier = anyio.current_time() >= deadline, snapshot
                if timed_out or not pause_scope.cancelled_caught:
                    snapshot = await reader.read_again()
                    changes.set_seen(snapshot.open_versions())
                report_due = pause_scope.cancelled_caught or snapshot.summaries != earlier.summaries
    if condition.marks_seen:
        await _mark_seen(app, caller, snapshot)
    return _build_view(snapshot, condition)


async def check_jobs(
    app: App, caller: Caller, job_handles: list[str], condition: WaitCondition
) -> WaitView:
    """Answer at once, with what a wait answers whose time is up."""
    reader = _JobReader(app, caller, job_handles, condition.seen_versions)
    snapshot = await reader.read_first()
    if condition.marks_seen:
        await _mark_seen(app, caller, snapshot)
    return _build_view(snapshot, condition)


def build_final_view(job: JobView) -> WaitView:
    """Answer a wait for the end of one job, after that end."""
    return WaitView(
        jobs=[job],
        errors=[],
        changed=[job.job_id],
        done=job.poll_after_seconds is None,
        timed_out=False,
        next_step=job.next_step,
    )


async def _mark_seen(app: App, caller: Caller, snapshot: _Snapshot) -> None:
    """Record that the ends in an answer are shown; without a database they stay unseen."""
    if not any(status.unseen for status in snapshot.statuses.values()):
        return
    with suppress(Unavailable):
        async with app.database.as_subject(caller.subject_id) as (tx, _):
            await operations.mark_seen(tx, caller, snapshot.statuses.values())


def _parse_job_ids(job_handles: list[str]) -> set[UUID]:
    """Parse the handles that are valid; reading the jobs refuses the others."""
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
    """Name the next call: the same wait, for what may change yet, from these versions on."""
    if not snapshot.open_handles:
        if len(snapshot.views) == 1:
            return snapshot.views[0].next_step
        return "Nothing of this will change any more; next_step of each job says what is left."
    versions = {handle: snapshot.statuses[handle].version for handle in snapshot.open_handles}
    [first, *others] = snapshot.open_handles
    several = bool(others)
    handles = ", ".join(f'"{handle}"' for handle in snapshot.open_handles)
    seen = ", ".join(f'"{handle}": {version}' for handle, version in versions.items())
    arguments = [f"job_ids=[{handles}]" if several else f"job_ids={handles}"]
    arguments += [f'mode="{condition.mode}"'] if several else []
    arguments += [f'until="{condition.until}"']
    arguments += [f"since_version={{{seen}}}" if several else f"since_version={versions[first]}"]
    return f"Call wait_for_jobs({', '.join(arguments)}) to wait on."
