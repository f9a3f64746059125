"""Actions on schedules: create, list, change, show, delete, and a dry run.

The schedule of another subject is not found, with the same words as one that does not exist.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import anyio

from schema.common import ids
from schema.common.errors import InDoubt, Invalid, NotFound
from schema.common.ids import HandleKind
from schema.jobs.tables import JobKind
from schema.schedules import store as schedule_store
from schema.schedules.cron import CronTrigger
from schema.schedules.store import NewSchedule, ScheduleStatus
from schema.schedules.tables import MissedPolicy, OverlapPolicy, Schedule
from service.auth.caller import Caller
from service.auth.client_info import CURRENT_CLIENT
from service.jobs import operations
from service.jobs.dry_run import dry_run_launch
from service.jobs.launch import LaunchRequest
from service.runtime.context import App
from service.schedules.views import (
    MAX_NEXT_RUNS,
    CreatedScheduleView,
    DeletedScheduleView,
    ScheduleDryRunView,
    ScheduleView,
)
from service.views.job_kinds import describe_kind, expect_launch_tool

_FIRING_TIMEOUT: Final = timedelta(seconds=3)
"""How long a call waits for the firing that it requested; workers look each second."""
_POLL_INTERVAL: Final = timedelta(milliseconds=100)


@dataclass(frozen=True, slots=True)
class SchedulePlan:
    """When a request is launched, and under what name."""

    trigger: CronTrigger
    overlap: OverlapPolicy
    missed: MissedPolicy
    name: str


@dataclass(frozen=True, slots=True)
class ScheduleChange:
    """Changes to a schedule; a field that is None stays as it is."""

    cron: str | None = None
    timezone: str | None = None
    overlap: OverlapPolicy | None = None
    missed: MissedPolicy | None = None
    name: str | None = None
    paused: bool | None = None
    run_now: bool = False


async def create_schedule(
    app: App, caller: Caller, plan: SchedulePlan, request: LaunchRequest
) -> CreatedScheduleView:
    """Create a schedule that launches a request again and again.

    Raises:
        IdempotencyConflict: another schedule was created with the key.
        TooManySchedules: the caller has as many as they may.
        WorkspaceArchived: the workspace takes no new jobs.
        Denied: the Hub does not let the caller launch it.
    """
    if request.kind == JobKind.HUB_JOB:
        await app.require_launch_permission(caller, request.namespace)
    new_schedule = _build_new_schedule(plan, request)
    try:
        async with app.transaction(caller) as tx:
            await operations.expect_not_archived(tx, caller, request.workspace_id)
            schedule_id = await schedule_store.create_schedule(
                tx,
                app.vault,
                caller.subject_id,
                ids.new_id(),
                new_schedule,
                next_at=plan.trigger.next_after(await schedule_store.read_database_time(tx)),
                secrets=request.secrets,
                client=CURRENT_CLIENT.get(),
            )
            status = await schedule_store.get_schedule(tx, caller.subject_id, schedule_id)
    except InDoubt:
        raise InDoubt(
            "The database",
            effect="whether the schedule was made is not known",
            first_step="See whether list_schedules has it",
        ) from None
    assert status is not None  # noqa: S101  # this transaction has created it
    return CreatedScheduleView.from_status(
        status, notes=[*request.short_notes, *_describe_token_expiry(caller)]
    )


async def dry_run_schedule(
    app: App, caller: Caller, plan: SchedulePlan, request: LaunchRequest
) -> ScheduleDryRunView:
    """Show when a schedule would fire, what each job would cost, and what the first would lack."""
    now = await _read_clock(app, caller)
    dry_run = await dry_run_launch(app, caller, request)
    return ScheduleDryRunView(
        dry_run=True,
        needs=dry_run.needs,
        next_runs=[
            moment.isoformat(timespec="minutes")
            for moment in plan.trigger.upcoming(now, MAX_NEXT_RUNS)
        ],
        namespace=dry_run.namespace,
        spec=dry_run.spec,
        shortened=dry_run.shortened,
        labels=dry_run.labels,
        notes=[*dry_run.notes, *_describe_token_expiry(caller)],
        ceiling_usd=dry_run.ceiling_usd,
    )


async def list_schedules(
    app: App, caller: Caller, *, before: UUID | None, limit: int
) -> list[ScheduleStatus]:
    """Return the newest of the caller's schedules that are older than `before`."""
    async with app.transaction(caller) as tx:
        return await schedule_store.list_schedules(
            tx, caller.subject_id, before=before, limit=limit
        )


async def update_schedule(
    app: App, caller: Caller, handle: str, changes: ScheduleChange
) -> ScheduleView:
    """Change a schedule; its jobs stay as they are. Wait a moment for a requested firing.

    Raises:
        NotFound: the caller has no such schedule.
        Invalid: the new times cannot be parsed, or there is no change.
        ToolNotChosen: it would launch what the connection has no tool for.
    """
    if changes == ScheduleChange():
        raise Invalid("There is nothing to change; give run_now, paused, cron or another argument.")
    schedule_id = ids.parse_handle(HandleKind.SCHEDULE, handle)
    async with app.transaction(caller) as tx:
        locked = await schedule_store.lock_schedule(tx, caller.subject_id, schedule_id)
        if locked is None:
            raise NotFound("schedule", handle)
        caller.require_scope(describe_kind(locked.kind).scope)
        if changes.run_now or changes.paused is False:
            expect_launch_tool(locked.kind)
        new_version = _apply_changes(locked, changes)
        next_at = _compute_next_at(locked, new_version, changes, locked.read_at)
        asked_at = await schedule_store.update_schedule(
            tx, new_version, next_at=next_at, fire_now=changes.run_now, client=CURRENT_CLIENT.get()
        )
    if changes.run_now and asked_at is not None:
        await _wait_for_firing(app, caller, schedule_id, asked_at)
    return await show_schedule(app, caller, handle)


async def show_schedule(app: App, caller: Caller, handle: str) -> ScheduleView:
    """Show one schedule.

    Raises:
        NotFound: the caller has no such schedule.
    """
    async with app.transaction(caller) as tx:
        schedule = await schedule_store.get_schedule(
            tx, caller.subject_id, ids.parse_handle(HandleKind.SCHEDULE, handle)
        )
    if schedule is None:
        raise NotFound("schedule", handle)
    return ScheduleView.from_status(schedule)


async def delete_schedule(app: App, caller: Caller, handle: str) -> DeletedScheduleView:
    """Delete a schedule; the jobs that it launched stay.

    Raises:
        NotFound: the caller has no such schedule.
    """
    schedule_id = ids.parse_handle(HandleKind.SCHEDULE, handle)
    async with app.transaction(caller) as tx:
        locked = await schedule_store.lock_schedule(tx, caller.subject_id, schedule_id)
        if locked is None:
            raise NotFound("schedule", handle)
        caller.require_scope(describe_kind(locked.kind).scope)
        await schedule_store.delete_schedule(
            tx, caller.subject_id, schedule_id, client=CURRENT_CLIENT.get()
        )
    return DeletedScheduleView(
        schedule_id=ids.format_handle(HandleKind.SCHEDULE, schedule_id), name=locked.name
    )


def _build_new_schedule(plan: SchedulePlan, request: LaunchRequest) -> NewSchedule:
    rate = request.rate
    return NewSchedule(
        name=plan.name,
        cron=plan.trigger.cron,
        timezone=plan.trigger.timezone,
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


def _apply_changes(schedule: Schedule, changes: ScheduleChange) -> Schedule:
    trigger = schedule.trigger
    if changes.cron is not None or changes.timezone is not None:
        trigger = CronTrigger.parse(
            changes.cron or trigger.cron, changes.timezone or trigger.timezone
        )
    return schedule.model_copy(
        update={
            "cron": trigger.cron,
            "timezone": trigger.timezone,
            "overlap": changes.overlap or schedule.overlap,
            "missed": changes.missed or schedule.missed,
            "name": changes.name or schedule.name,
        }
    )


def _compute_next_at(
    old: Schedule, new: Schedule, changes: ScheduleChange, now: datetime
) -> datetime | None:
    """Return when it fires next: computed anew after a pause or new times, else as before.

    None: it is or becomes paused.
    """
    if changes.paused or (changes.paused is None and old.next_at is None):
        return None
    if old.next_at is None or new.trigger != old.trigger:
        return new.trigger.next_after(now)
    return old.next_at


async def _wait_for_firing(app: App, caller: Caller, schedule_id: UUID, asked_at: datetime) -> None:
    with anyio.move_on_after(_FIRING_TIMEOUT.total_seconds()):
        while True:
            async with app.transaction(caller) as tx:
                if (
                    await schedule_store.get_firing(tx, caller.subject_id, schedule_id, asked_at)
                    is not None
                ):
                    return
            await anyio.sleep(_POLL_INTERVAL.total_seconds())


async def _read_clock(app: App, caller: Caller) -> datetime:
    async with app.transaction(caller) as tx:
        return await schedule_store.read_database_time(tx)


def _describe_token_expiry(caller: Caller) -> list[str]:
    """Return a note about when the caller's token expires; empty if it does not."""
    if caller.expires_at is None:
        return []
    until = caller.expires_at.isoformat(timespec="minutes")
    return [
        f"Your Hugging Face token ends at {until}; jobs that fire later wait until you call again."
    ]
