"""What can a caller do with schedules, apart from how they ask for it?

A schedule of somebody else's is not found, with the same words as one that does not exist.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import anyio

from schema.common import ids
from schema.common.errors import InDoubt, Invalid, NotFound, WorkspaceArchived
from schema.common.ids import Kind
from schema.db.database import Transaction
from schema.jobs.tables import JobKind
from schema.schedules import store as schedule_store
from schema.schedules.cron import Rhythm
from schema.schedules.store import ScheduleStatus, Wanted
from schema.schedules.tables import Missed, Overlap, Schedule
from schema.workspaces import store as workspace_store
from service.auth.caller import Caller
from service.auth.client_info import CLIENT
from service.jobs.dry_run import rehearse
from service.jobs.launch import Request
from service.runtime.context import App
from service.schedules.views import (
    AHEAD,
    DeletedScheduleView,
    MadeScheduleView,
    ScheduleDryRunView,
    ScheduleView,
)
from service.views.job_kinds import known

_PATIENCE: Final = timedelta(seconds=3)
"""How long a call stays to see what became of a firing it asked for; workers look each second."""
_LOOK: Final = timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True)
class Plan:
    """When a request is to be launched."""

    rhythm: Rhythm
    overlap: Overlap
    missed: Missed
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """What of a schedule is to be different; what is `None` stays."""

    cron: str | None = None
    timezone: str | None = None
    overlap: Overlap | None = None
    missed: Missed | None = None
    name: str | None = None
    paused: bool | None = None
    run_now: bool = False


async def make(app: App, caller: Caller, plan: Plan, request: Request) -> MadeScheduleView:
    """Keep a request that is launched again and again.

    Raises:
        IdempotencyConflict: the key has made another one.
        TooManySchedules: the caller has as many as they may.
        WorkspaceArchived: nothing could ever be launched.
        Denied: the Hub does not let the caller launch it.
    """
    if request.kind == JobKind.HUB_JOB:
        await app.expect_may_launch(caller, request.namespace)
    wanted = _wanted(plan, request)
    try:
        async with app.transaction(caller) as tx:
            await _expect_open(tx, caller, request.workspace_id)
            made = await schedule_store.make(
                tx,
                app.vault,
                caller.subject_id,
                ids.new_id(),
                wanted,
                next_at=plan.rhythm.after(await schedule_store.now(tx)),
                secrets=request.secrets,
                client=CLIENT.get(),
            )
            status = await schedule_store.one(tx, caller.subject_id, made)
    except InDoubt:
        raise InDoubt(
            "The database",
            so="whether the schedule was made is not known",
            first="See whether list_schedules has it",
        ) from None
    assert status is not None  # noqa: S101  # it is there, in this transaction
    return MadeScheduleView.of(status, notes=[*request.notes, *_notes(caller)])


async def rehearse_plan(
    app: App, caller: Caller, plan: Plan, request: Request
) -> ScheduleDryRunView:
    """Say when it would fire, what each job would cost, and what the first would lack."""
    now = await _now(app, caller)
    found = await rehearse(app, caller, request)
    return ScheduleDryRunView(
        dry_run=True,
        needs=found.needs,
        next_runs=[moment.isoformat(timespec="minutes") for moment in plan.rhythm.next(now, AHEAD)],
        namespace=found.namespace,
        spec=found.spec,
        labels=found.labels,
        notes=[*request.notes, *_notes(caller)],
        ceiling_usd=found.ceiling_usd,
    )


async def page(
    app: App, caller: Caller, *, before: UUID | None, limit: int
) -> list[ScheduleStatus]:
    """Return the newest of the caller's schedules that are older than `before`."""
    async with app.transaction(caller) as tx:
        return await schedule_store.page(tx, caller.subject_id, before=before, limit=limit)


async def change(app: App, caller: Caller, handle: str, wanted: Change) -> ScheduleView:
    """Change a schedule, and no job; wait a moment for a firing that was asked for.

    Raises:
        NotFound: the caller has no such schedule.
        Invalid: the new times cannot be read, or nothing is to be different.
    """
    if wanted == Change():
        raise Invalid("There is nothing to change; give run_now, paused, cron or what else is to.")
    identity = ids.read(Kind.SCHEDULE, handle)
    async with app.transaction(caller) as tx:
        locked = await schedule_store.lock(tx, caller.subject_id, identity)
        if locked is None:
            raise NotFound("schedule", handle)
        caller.expect(known(locked.kind).scope)
        changed = _changed(locked, wanted)
        next_at = _next(locked, changed, wanted, locked.read_at)
        asked_at = await schedule_store.change(
            tx, changed, next_at=next_at, fire_now=wanted.run_now, client=CLIENT.get()
        )
    if wanted.run_now and asked_at is not None:
        await _fired(app, caller, identity, asked_at)
    return await look(app, caller, handle)


async def look(app: App, caller: Caller, handle: str) -> ScheduleView:
    """Show one schedule.

    Raises:
        NotFound: the caller has no such schedule.
    """
    async with app.transaction(caller) as tx:
        found = await schedule_store.one(tx, caller.subject_id, ids.read(Kind.SCHEDULE, handle))
    if found is None:
        raise NotFound("schedule", handle)
    return ScheduleView.of(found)


async def delete(app: App, caller: Caller, handle: str) -> DeletedScheduleView:
    """Forget a schedule; the jobs it made stay.

    Raises:
        NotFound: the caller has no such schedule.
    """
    identity = ids.read(Kind.SCHEDULE, handle)
    async with app.transaction(caller) as tx:
        locked = await schedule_store.lock(tx, caller.subject_id, identity)
        if locked is None:
            raise NotFound("schedule", handle)
        caller.expect(known(locked.kind).scope)
        await schedule_store.delete(tx, caller.subject_id, identity, client=CLIENT.get())
    return DeletedScheduleView(schedule_id=ids.write(Kind.SCHEDULE, identity), name=locked.name)


def _wanted(plan: Plan, request: Request) -> Wanted:
    rate = request.rate
    return Wanted(
        name=plan.name,
        cron=plan.rhythm.cron,
        timezone=plan.rhythm.timezone,
        overlap=plan.overlap,
        missed=plan.missed,
        workspace_id=request.workspace_id,
        kind=request.kind,
        namespace=request.namespace,
        title=request.title,
        spec=request.spec,
        labels=request.labels,
        most_micro_usd=None if rate is None else rate.most_micro_usd,
        ceiling_micro_usd=None if rate is None else rate.ceiling_micro_usd,
        idempotency_key=request.idempotency_key,
    )


def _changed(schedule: Schedule, wanted: Change) -> Schedule:
    rhythm = schedule.rhythm
    if wanted.cron is not None or wanted.timezone is not None:
        rhythm = Rhythm.read(wanted.cron or rhythm.cron, wanted.timezone or rhythm.timezone)
    return schedule.model_copy(
        update={
            "cron": rhythm.cron,
            "timezone": rhythm.timezone,
            "overlap": wanted.overlap or schedule.overlap,
            "missed": wanted.missed or schedule.missed,
            "name": wanted.name or schedule.name,
        }
    )


def _next(old: Schedule, new: Schedule, wanted: Change, now: datetime) -> datetime | None:
    """Return when it fires next: after a pause or a change from now on, else as it was."""
    if wanted.paused or (wanted.paused is None and old.next_at is None):
        return None
    if old.next_at is None or new.rhythm != old.rhythm:
        return new.rhythm.after(now)
    return old.next_at


async def _fired(app: App, caller: Caller, identity: UUID, asked_at: datetime) -> None:
    with anyio.move_on_after(_PATIENCE.total_seconds()):
        while True:
            async with app.transaction(caller) as tx:
                if (
                    await schedule_store.firing(tx, caller.subject_id, identity, asked_at)
                    is not None
                ):
                    return
            await anyio.sleep(_LOOK.total_seconds())


async def _expect_open(tx: Transaction, caller: Caller, workspace_id: UUID | None) -> None:
    if workspace_id is None:
        return
    workspace = await workspace_store.workspace(tx, caller.subject_id, workspace_id)
    if workspace is not None and workspace.archived_at is not None:
        raise WorkspaceArchived(ids.write(Kind.WORKSPACE, workspace_id))


async def _now(app: App, caller: Caller) -> datetime:
    async with app.transaction(caller) as tx:
        return await schedule_store.now(tx)


def _notes(caller: Caller) -> list[str]:
    """Say until when it can fire by itself."""
    if caller.expires_at is None:
        return []
    until = caller.expires_at.isoformat(timespec="minutes")
    return [
        f"Your Hugging Face token ends at {until}; jobs that fire later wait until you call again."
    ]
