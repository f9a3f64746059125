"""The tools that launch a request again and again."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Annotated, Any, Final

from mcp_types import CallToolResult
from pydantic import Field

from schema.common.errors import Invalid
from schema.common.ids import Kind
from schema.schedules import store as schedule_store
from schema.schedules.cron import Rhythm
from schema.schedules.tables import Missed, Overlap
from schema.workspaces import store as workspace_store
from service.auth.caller import Caller, Scope
from service.jobs import operations
from service.jobs.approval import UNASKED, Question
from service.jobs.batches import Many
from service.jobs.launch import Request
from service.mcp.confirmation import Confirm, Confirmed, confirmed_by
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import MAKES, READS, STOPS, Contract, contract, told
from service.mcp.tools import launch_inference as inference_tool
from service.mcp.tools import launch_job as launch_tool
from service.mcp.tools import launch_space_call as space_tool
from service.mcp.tools.arguments import DryRun, Key, Name
from service.mcp.tools.launch_inference import call_request
from service.mcp.tools.launch_job import job_request
from service.mcp.tools.launch_space_call import space_request
from service.runtime.context import App
from service.schedules import actions as service
from service.schedules.actions import Change, Plan
from service.schedules.views import (
    DeletedScheduleView,
    ScheduleAnswer,
    SchedulePage,
    ScheduleView,
    each_costs,
    said_times,
)
from service.views.job_summary import entitled

ScheduleId = Annotated[str, Field(description="A handle, sched_….")]
Cron = Annotated[str, Field(description='Such as "0 9 * * 1-5" or "@daily".')]
Zone = Annotated[str, Field(description='Such as "Europe/Paris".')]
Arguments = dict[str, Any]
Launch = Mapping[str, Arguments | None]
"""What is launched each time: by the name of the argument, the arguments of the tool."""

_OF_ONE: Final = ("idempotency_key", "dry_run", "confirm", "after", "on")
"""Arguments of a launch that are about the one job it makes."""


async def _question(
    cron: str,
    job: Arguments | None,
    inference: Arguments | None,
    space: Arguments | None,
    idempotency_key: str | None,
    dry_run: bool,  # noqa: FBT001  # filled in by name
    app: AppDep,
    caller: CallerDep,
) -> Question:
    request = await _request(app, caller, {"job": job, "inference": inference, "space": space})
    if dry_run or request.workspace_id is None:
        return UNASKED
    async with app.transaction(caller) as tx:
        workspace = await workspace_store.workspace(tx, caller.subject_id, request.workspace_id)
        held = idempotency_key is not None and await schedule_store.is_held(
            tx, caller.subject_id, idempotency_key
        )
    if workspace is None or held:
        return UNASKED
    ceiling = None if request.rate is None else request.rate.ceiling_micro_usd
    what = f'Each time "{cron[:100]}" comes round, {request.title}'
    return Question(what, ceiling, workspace.confirm_above_micro_usd)


async def create_schedule(
    cron: Cron,
    job: Annotated[Arguments | None, Field(description="The arguments of launch_job.")] = None,
    inference: Annotated[
        Arguments | None, Field(description="Or those of launch_inference.")
    ] = None,
    space: Annotated[Arguments | None, Field(description="Or those of launch_space_call.")] = None,
    timezone: Zone = "UTC",
    overlap: Annotated[
        Overlap, Field(description="While its last job has not finished.")
    ] = Overlap.SKIP,
    missed: Annotated[Missed, Field(description="After an outage.")] = Missed.RUN_ONCE,
    name: Name = None,
    idempotency_key: Key = None,
    dry_run: DryRun = False,  # noqa: FBT002  # filled in by name, from JSON
    confirm: Confirm = None,  # looked at by what gives `confirmed`
    *,
    app: AppDep,
    caller: CallerDep,
    confirmed: Annotated[Confirmed, confirmed_by(_question)],
) -> Annotated[CallToolResult, ScheduleAnswer]:
    """Launch the same request again and again, until you pause or delete the schedule.

    Each firing is an ordinary job with its own handle, checked against budgets and prices at that
    time; list_jobs(schedule_id=…) has them. It fires without any client, as long as your token
    lives. dry_run shows the next times.
    """
    rhythm = Rhythm.read(cron, timezone)
    launch: Launch = {"job": job, "inference": inference, "space": space}
    request = await _request(app, caller, launch, idempotency_key or confirmed.once)
    plan = Plan(rhythm, overlap, missed, entitled(name or request.title))
    if dry_run:
        rehearsed = await service.rehearse_plan(app, caller, plan, request)
        said = ["No schedule was made.", said_times(rehearsed.next_runs)]
        said += [each_costs(rehearsed.ceiling_usd), *rehearsed.needs, *rehearsed.notes]
        return told(" ".join(said), rehearsed)
    view = await service.make(app, caller, plan, request)
    said = [f"{view.schedule_id}: {view.summary}", each_costs(view.ceiling_usd), *view.notes]
    return told(" ".join(said), view)


async def list_schedules(
    cursor: str | None = None,
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, SchedulePage]:
    """List your schedules, the newest first: when each fires next, and what became of the last."""
    before = operations.older_than(Kind.SCHEDULE, cursor)
    found = await service.page(app, caller, before=before, limit=limit + 1)
    shown = [ScheduleView.of(schedule) for schedule in found[:limit]]
    more = shown[-1].schedule_id if len(found) > limit else None
    lines = [f"{each.schedule_id} {each.name}: {each.summary}" for each in shown]
    view = SchedulePage(schedules=shown, next_cursor=more)
    return told(f"{len(shown)} schedules, the newest first.", view, "\n".join(lines))


async def update_schedule(
    schedule_id: ScheduleId,
    run_now: Annotated[bool, Field(description="Fire once besides.")] = False,  # noqa: FBT002  # filled in by name, from JSON
    paused: Annotated[bool | None, Field(description="False resumes it.")] = None,
    cron: Cron | None = None,
    timezone: Zone | None = None,
    overlap: Overlap | None = None,
    missed: Missed | None = None,
    name: Name = None,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, ScheduleView]:
    """Pause or resume a schedule, have it fire now, or change its times; what is left out stays.

    Nothing that was missed during a pause is made up for. What it launches cannot be changed:
    delete it and create another.
    """
    wanted = Change(cron, timezone, overlap, missed, name, paused, run_now)
    view = await service.change(app, caller, schedule_id, wanted)
    return told(f"{view.schedule_id} ({view.name}): {view.summary}", view)


async def delete_schedule(
    schedule_id: ScheduleId, *, app: AppDep, caller: CallerDep
) -> Annotated[CallToolResult, DeletedScheduleView]:
    """End a schedule for good, and forget its secrets.

    The jobs it made stay, and those under way go on; cancel_job stops one.
    """
    view = await service.delete(app, caller, schedule_id)
    return told(f"{view.schedule_id} ({view.name}) is deleted; it fires no more.", view)


async def _request(
    app: App, caller: Caller, launch: Launch, idempotency_key: str | None = None
) -> Request:
    """Check what is to be launched, as the tool would that launches it now."""
    match [name for name in ("job", "inference", "space") if launch.get(name) is not None]:
        case ["job"]:
            caller.expect(Scope.JOBS)
            given = _read("job", launch)
            request = await job_request(app, caller, **given, idempotency_key=idempotency_key)
        case ["inference"]:
            caller.expect(Scope.INFERENCE)
            given = _read("inference", launch)
            many = Many(**{each.name: given.pop(each.name) for each in fields(Many)})
            request = await call_request(
                app, caller, **given, many=many, idempotency_key=idempotency_key
            )
        case ["space"]:
            caller.expect(Scope.INFERENCE)
            given = _read("space", launch)
            request = await space_request(app, caller, **given, idempotency_key=idempotency_key)
        case _:
            raise Invalid(
                "Give one of job, inference and space: the arguments of launch_job, "
                "launch_inference or launch_space_call."
            )
    if request.beside is not None:
        raise Invalid(
            "inference: items are kept for one batch, and each firing makes another; put them into "
            "a file, which each reads anew, and give items_from."
        )
    return request


def _read(argument: str, launch: Launch) -> Arguments:
    given = launch[argument] or {}
    for name in _OF_ONE:
        if name in given:
            raise Invalid(
                f"{argument}: {name} is about one job, and each firing makes another; leave it out"
                f" of {argument}."
            )
    try:
        read = _launching()[argument].read(given)
    except Invalid as wrong:
        raise Invalid(f"{argument}: {wrong}") from None
    return {name: value for name, value in read.items() if name not in _OF_ONE}


@cache
def _launching() -> dict[str, Contract]:
    made = (*launch_tool.contracts(""), *inference_tool.contracts(""), *space_tool.contracts(""))
    return dict(zip(("job", "inference", "space"), made, strict=True))


def contracts() -> list[Contract]:
    """Publish these tools."""
    handle = "sched_01krz4c0s0e5xv4k6w2q8ntb7m"
    work = {"image": "python:3.12", "command": ["python", "-c", "print(1)"]}
    return [
        contract(
            create_schedule,
            "Create a schedule",
            MAKES,
            *Scope,
            cron="0 9 * * 1-5",
            timezone="Europe/Paris",
            job=work,
        ),
        contract(list_schedules, "List schedules", READS, limit=20),
        contract(
            update_schedule, "Change a schedule", MAKES, *Scope, schedule_id=handle, paused=True
        ),
        contract(delete_schedule, "Delete a schedule", STOPS, *Scope, schedule_id=handle),
    ]
