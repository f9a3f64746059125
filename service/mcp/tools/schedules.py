"""The tools that launch a request again and again."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Annotated, Any, Final

from mcp_types import CallToolResult
from pydantic import Field

from schema.common.errors import Invalid
from schema.common.ids import HandleKind
from schema.schedules import store as schedule_store
from schema.schedules.cron import CronTrigger
from schema.schedules.tables import MissedPolicy, OverlapPolicy
from schema.workspaces import store as workspace_store
from service.auth.caller import Caller, Scope
from service.jobs import operations
from service.jobs.approval import NO_APPROVAL, ApprovalQuestion
from service.jobs.batches import BatchArguments
from service.jobs.launch import LaunchRequest
from service.mcp.confirmation import Approval, ConfirmationToken, require_approval
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import CREATES, DESTRUCTIVE, READ_ONLY, McpTool, build_tool, tool_result
from service.mcp.tools import launch_inference as inference_tool
from service.mcp.tools import launch_job as launch_tool
from service.mcp.tools import launch_space_call as space_tool
from service.mcp.tools.arguments import DisplayName, DryRun, IdempotencyKey
from service.mcp.tools.launch_inference import build_inference_request
from service.mcp.tools.launch_job import build_job_request
from service.mcp.tools.launch_space_call import build_space_request
from service.runtime.context import App
from service.schedules import actions as service
from service.schedules.actions import ScheduleChange, SchedulePlan
from service.schedules.views import (
    DeletedScheduleView,
    ScheduleAnswer,
    SchedulePage,
    ScheduleView,
    describe_cost,
    describe_next_runs,
)
from service.views.job_summary import shorten_title

ScheduleId = Annotated[str, Field(description="A handle, sched_….")]
Cron = Annotated[str, Field(description='Such as "0 9 * * 1-5" or "@daily".')]
TimeZone = Annotated[str, Field(description='Such as "Europe/Paris".')]
LaunchArguments = dict[str, Any]
LaunchChoice = Mapping[str, LaunchArguments | None]
"""What is launched each time: by the name of the argument, the arguments of the tool."""

_SINGLE_JOB_ARGUMENTS: Final = ("idempotency_key", "dry_run", "confirm", "after", "on")
"""Arguments of a launch that are about the one job it makes."""


async def _question(
    cron: str,
    job: LaunchArguments | None,
    inference: LaunchArguments | None,
    space: LaunchArguments | None,
    idempotency_key: str | None,
    dry_run: bool,  # noqa: FBT001  # filled in by name
    app: AppDep,
    caller: CallerDep,
) -> ApprovalQuestion:
    request = await _build_request(
        app, caller, {"job": job, "inference": inference, "space": space}
    )
    if dry_run or request.workspace_id is None:
        return NO_APPROVAL
    async with app.transaction(caller) as tx:
        workspace = await workspace_store.get_workspace(tx, caller.subject_id, request.workspace_id)
        held = idempotency_key is not None and await schedule_store.is_schedule_key_used(
            tx, caller.subject_id, idempotency_key
        )
    if workspace is None or held:
        return NO_APPROVAL
    ceiling = None if request.rate is None else request.rate.ceiling_micro_usd
    what = f'Each time "{cron[:100]}" comes round, {request.title}'
    return ApprovalQuestion(what, ceiling, workspace.confirm_above_micro_usd)


async def create_schedule(
    cron: Cron,
    job: Annotated[
        LaunchArguments | None, Field(description="The arguments of launch_job.")
    ] = None,
    inference: Annotated[
        LaunchArguments | None, Field(description="Or those of launch_inference.")
    ] = None,
    space: Annotated[
        LaunchArguments | None, Field(description="Or those of launch_space_call.")
    ] = None,
    timezone: TimeZone = "UTC",
    overlap: Annotated[
        OverlapPolicy, Field(description="While its last job has not finished.")
    ] = OverlapPolicy.SKIP,
    missed: Annotated[MissedPolicy, Field(description="After an outage.")] = MissedPolicy.RUN_ONCE,
    name: DisplayName = None,
    idempotency_key: IdempotencyKey = None,
    dry_run: DryRun = False,  # noqa: FBT002  # filled in by name, from JSON
    confirm: ConfirmationToken = None,  # looked at by what gives `confirmed`
    *,
    app: AppDep,
    caller: CallerDep,
    approval: Annotated[Approval, require_approval(_question)],
) -> Annotated[CallToolResult, ScheduleAnswer]:
    """Launch the same request again and again, until you pause or delete the schedule.

    Each firing is an ordinary job with its own handle, checked against budgets and prices at that
    time; list_jobs(schedule_id=…) has them. It fires without any client, as long as your token
    lives. dry_run shows the next times.
    """
    rhythm = CronTrigger.parse(cron, timezone)
    launch: LaunchChoice = {"job": job, "inference": inference, "space": space}
    request = await _build_request(app, caller, launch, idempotency_key or approval.idempotency_key)
    plan = SchedulePlan(rhythm, overlap, missed, shorten_title(name or request.title))
    if dry_run:
        rehearsed = await service.dry_run_schedule(app, caller, plan, request)
        said = ["No schedule was made.", describe_next_runs(rehearsed.next_runs)]
        said += [describe_cost(rehearsed.ceiling_usd), *rehearsed.needs, *rehearsed.notes]
        return tool_result(" ".join(said), rehearsed)
    view = await service.create_schedule(app, caller, plan, request)
    said = [f"{view.schedule_id}: {view.summary}", describe_cost(view.ceiling_usd), *view.notes]
    return tool_result(" ".join(said), view)


async def list_schedules(
    cursor: str | None = None,
    limit: Annotated[int, Field(ge=1, le=100)] = 20,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, SchedulePage]:
    """List your schedules, the newest first: when each fires next, and what became of the last."""
    before = operations.parse_cursor(HandleKind.SCHEDULE, cursor)
    found = await service.list_schedules(app, caller, before=before, limit=limit + 1)
    shown = [ScheduleView.from_status(schedule) for schedule in found[:limit]]
    more = shown[-1].schedule_id if len(found) > limit else None
    lines = [f"{each.schedule_id} {each.name}: {each.summary}" for each in shown]
    view = SchedulePage(schedules=shown, next_cursor=more)
    return tool_result(f"{len(shown)} schedules, the newest first.", view, "\n".join(lines))


async def update_schedule(
    schedule_id: ScheduleId,
    run_now: Annotated[bool, Field(description="Fire once besides.")] = False,  # noqa: FBT002  # filled in by name, from JSON
    paused: Annotated[bool | None, Field(description="False resumes it.")] = None,
    cron: Cron | None = None,
    timezone: TimeZone | None = None,
    overlap: OverlapPolicy | None = None,
    missed: MissedPolicy | None = None,
    name: DisplayName = None,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, ScheduleView]:
    """Pause or resume a schedule, have it fire now, or change its times; what is left out stays.

    Nothing that was missed during a pause is made up for. What it launches cannot be changed:
    delete it and create another.
    """
    wanted = ScheduleChange(cron, timezone, overlap, missed, name, paused, run_now)
    view = await service.update_schedule(app, caller, schedule_id, wanted)
    return tool_result(f"{view.schedule_id} ({view.name}): {view.summary}", view)


async def delete_schedule(
    schedule_id: ScheduleId, *, app: AppDep, caller: CallerDep
) -> Annotated[CallToolResult, DeletedScheduleView]:
    """End a schedule for good, and forget its secrets.

    The jobs it made stay, and those under way go on; cancel_job stops one.
    """
    view = await service.delete_schedule(app, caller, schedule_id)
    return tool_result(f"{view.schedule_id} ({view.name}) is deleted; it fires no more.", view)


async def _build_request(
    app: App, caller: Caller, launch_choice: LaunchChoice, idempotency_key: str | None = None
) -> LaunchRequest:
    """Check what is to be launched, as the tool would that launches it now."""
    match [name for name in ("job", "inference", "space") if launch_choice.get(name) is not None]:
        case ["job"]:
            caller.require_scope(Scope.JOBS)
            given = _parse_launch_arguments("job", launch_choice)
            request = await build_job_request(app, caller, **given, idempotency_key=idempotency_key)
        case ["inference"]:
            caller.require_scope(Scope.INFERENCE)
            given = _parse_launch_arguments("inference", launch_choice)
            many = BatchArguments(
                **{each.name: given.pop(each.name) for each in fields(BatchArguments)}
            )
            request = await build_inference_request(
                app, caller, **given, many=many, idempotency_key=idempotency_key
            )
        case ["space"]:
            caller.require_scope(Scope.INFERENCE)
            given = _parse_launch_arguments("space", launch_choice)
            request = await build_space_request(
                app, caller, **given, idempotency_key=idempotency_key
            )
        case _:
            raise Invalid(
                "Give one of job, inference and space: the arguments of launch_job, "
                "launch_inference or launch_space_call."
            )
    if request.attachment is not None:
        raise Invalid(
            "inference: items are kept for one batch, and each firing makes another; put them into "
            "a file, which each reads anew, and give items_from."
        )
    return request


def _parse_launch_arguments(argument: str, launch_choice: LaunchChoice) -> LaunchArguments:
    given = launch_choice[argument] or {}
    for name in _SINGLE_JOB_ARGUMENTS:
        if name in given:
            raise Invalid(
                f"{argument}: {name} is about one job, and each firing makes another; leave it out"
                f" of {argument}."
            )
    try:
        read = _launch_tools()[argument].parse_arguments(given)
    except Invalid as wrong:
        raise Invalid(f"{argument}: {wrong}") from None
    return {name: value for name, value in read.items() if name not in _SINGLE_JOB_ARGUMENTS}


@cache
def _launch_tools() -> dict[str, McpTool]:
    made = (
        *launch_tool.build_tools(""),
        *inference_tool.build_tools(""),
        *space_tool.build_tools(""),
    )
    return dict(zip(("job", "inference", "space"), made, strict=True))


def build_tools() -> list[McpTool]:
    """Publish these tools."""
    handle = "sched_01krz4c0s0e5xv4k6w2q8ntb7m"
    work = {"image": "python:3.12", "command": ["python", "-c", "print(1)"]}
    return [
        build_tool(
            create_schedule,
            "Create a schedule",
            CREATES,
            *Scope,
            cron="0 9 * * 1-5",
            timezone="Europe/Paris",
            job=work,
        ),
        build_tool(list_schedules, "List schedules", READ_ONLY, limit=20),
        build_tool(
            update_schedule, "Change a schedule", CREATES, *Scope, schedule_id=handle, paused=True
        ),
        build_tool(delete_schedule, "Delete a schedule", DESTRUCTIVE, *Scope, schedule_id=handle),
    ]
