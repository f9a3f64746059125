"""The tools for schedules, which launch the same request again and again."""

from dataclasses import replace
from typing import Annotated, Any, Final

from mcp_types import CallToolResult
from pydantic import Field

from schema.common.errors import Invalid
from schema.common.ids import HandleKind
from schema.common.text import truncate
from schema.schedules import store as schedule_store
from schema.schedules.cron import CronTrigger
from schema.schedules.tables import MissedPolicy, OverlapPolicy
from schema.specs.inputs.upload_handles import find_upload_ids
from service.auth.caller import ACTING_SCOPES, Caller, Scope
from service.jobs import operations
from service.jobs.dry_run import describe_request
from service.jobs.launch import LaunchRequest
from service.jobs.scopes import find_schedule_scopes
from service.mcp.confirmation import ConfirmationToken, approved_request
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import (
    CREATES,
    DESTRUCTIVE,
    READ_ONLY,
    ArgumentsT,
    McpTool,
    ToolArguments,
    build_tool,
    parse_arguments,
    tool_result,
)
from service.mcp.tools.arguments import (
    Cursor,
    DisplayName,
    DryRun,
    IdempotencyKey,
    SingleLaunchArguments,
)
from service.mcp.tools.launch_inference import InferenceArguments, build_inference_request
from service.mcp.tools.launch_job import HubJobArguments, build_job_request
from service.mcp.tools.launch_space_call import (
    SpaceCallArguments,
    build_space_request,
    check_endpoint,
)
from service.runtime.context import App
from service.schedules import actions as schedule_actions
from service.schedules.actions import ScheduleChange, SchedulePlan
from service.schedules.views import (
    DeletedScheduleView,
    ScheduleAnswer,
    SchedulePage,
    ScheduleView,
    describe_cost,
    describe_next_runs,
)
from service.views.job_kinds import expect_launch_tool
from service.views.job_summary import shorten_title
from service.views.pages import describe_page, take_page

ScheduleId = Annotated[str, Field(description="A handle, sched_….")]
Cron = Annotated[str, Field(description='Such as "0 9 * * 1-5" or "@daily".')]
TimeZone = Annotated[str, Field(description='Such as "Europe/Paris".')]
_MAX_CRON_CHARS: Final = 100
"""How much of a cron expression a question repeats."""

_PAGE_LIMIT: Final = 20

ScheduledArguments = dict[str, Any]
"""The arguments of a tool that launches, as they were sent."""


class CreateScheduleArguments(ToolArguments):
    """Arguments of create_schedule."""

    cron: Cron
    job: Annotated[ScheduledArguments | None, Field(description="The arguments of launch_job.")] = (
        None
    )
    inference: Annotated[
        ScheduledArguments | None, Field(description="Or those of launch_inference.")
    ] = None
    space: Annotated[
        ScheduledArguments | None, Field(description="Or those of launch_space_call.")
    ] = None
    timezone: TimeZone = "UTC"
    overlap: Annotated[OverlapPolicy, Field(description="While its last job has not finished.")] = (
        OverlapPolicy.SKIP
    )
    missed: Annotated[MissedPolicy, Field(description="After an outage.")] = MissedPolicy.RUN_ONCE
    name: DisplayName = None
    idempotency_key: IdempotencyKey = None
    dry_run: DryRun = False
    confirm: ConfirmationToken = None


async def _build_request(
    arguments: CreateScheduleArguments, app: AppDep, caller: CallerDep
) -> LaunchRequest:
    """Check what is to be launched, as the tool would that launches it now."""
    request = await _build_scheduled_request(app, caller, arguments)
    expect_launch_tool(request.kind)
    cron = truncate(arguments.cron, _MAX_CRON_CHARS)
    if request.attachment is not None:
        raise Invalid(
            "inference: items are kept for one batch, and each firing makes another; put them into "
            "a file, which each reads anew, and give items_from."
        )
    if find_upload_ids(request.spec):
        raise Invalid(
            "inputs: an upload is deleted after a while, and a schedule goes on; put the file into "
            "a repository or a bucket, and name it as hf://…."
        )
    return replace(
        request,
        idempotency_key=arguments.idempotency_key,
        work=f'Each time "{cron}" comes round, {request.title}',
        approval_threshold_micro_usd=None
        if arguments.dry_run
        else request.approval_threshold_micro_usd,
    )


async def _build_scheduled_request(
    app: App, caller: Caller, arguments: CreateScheduleArguments
) -> LaunchRequest:
    match arguments:
        case CreateScheduleArguments(job=dict() as fields, inference=None, space=None):
            caller.require_scope(Scope.JOBS)
            job = _parse_launch_arguments("job", HubJobArguments, fields)
            return await build_job_request(app, caller, job)
        case CreateScheduleArguments(job=None, inference=dict() as fields, space=None):
            caller.require_scope(Scope.INFERENCE)
            inference = _parse_launch_arguments("inference", InferenceArguments, fields)
            return await build_inference_request(app, caller, inference)
        case CreateScheduleArguments(job=None, inference=None, space=dict() as fields):
            caller.require_scope(Scope.INFERENCE)
            space_call = _parse_launch_arguments("space", SpaceCallArguments, fields)
            request = await build_space_request(app, caller, space_call)
            return await check_endpoint(app, caller, request)
        case _:
            raise Invalid(
                "Give one of job, inference and space: the arguments of launch_job, "
                "launch_inference or launch_space_call."
            )


def _parse_launch_arguments(
    argument: str, model: type[ArgumentsT], fields: ScheduledArguments
) -> ArgumentsT:
    for name in SingleLaunchArguments.model_fields:
        if name in fields:
            raise Invalid(
                f"{argument}: {name} is about one job, and each firing makes another; leave it out"
                f" of {argument}."
            )
    try:
        return parse_arguments(model, fields)
    except Invalid as error:
        raise Invalid(f"{argument}: {error}") from None


async def create_schedule(
    arguments: CreateScheduleArguments,
    *,
    app: AppDep,
    caller: CallerDep,
    request: Annotated[
        LaunchRequest, approved_request(_build_request, schedule_store.is_schedule_key_used)
    ],
) -> Annotated[CallToolResult, ScheduleAnswer]:
    """Launch the same request again and again, until you pause or delete the schedule.

    Each firing is an ordinary job; list_jobs(schedule_id=…) has them. It fires without any client,
    as long as your token lives. dry_run shows the next times.
    """
    plan = SchedulePlan(
        CronTrigger.parse(arguments.cron, arguments.timezone),
        arguments.overlap,
        arguments.missed,
        shorten_title(arguments.name or request.title),
    )
    if arguments.dry_run:
        preview = await schedule_actions.dry_run_schedule(app, caller, plan, request)
        sentences = ["No schedule was made.", describe_next_runs(preview.next_runs)]
        sentences += [describe_cost(preview.ceiling_usd), *preview.needs, *preview.notes]
        launched = describe_request(
            "Each would be", preview.spec, preview.labels, shortened=preview.shortened
        )
        return tool_result(" ".join(sentences), preview, launched)
    view = await schedule_actions.create_schedule(app, caller, plan, request)
    sentence = " ".join([f"{view.schedule_id}: {view.summary}", *view.notes])
    return tool_result(sentence, view, view.describe())


async def list_schedules(
    cursor: Cursor = None,
    limit: Annotated[int, Field(ge=1, le=100)] = _PAGE_LIMIT,
    *,
    app: AppDep,
    caller: CallerDep,
) -> Annotated[CallToolResult, SchedulePage]:
    """List your schedules, the newest first: when each fires next, and what became of the last."""
    before = operations.parse_cursor(HandleKind.SCHEDULE, cursor)
    rows = await schedule_actions.list_schedules(app, caller, before=before, limit=limit + 1)
    entries = [ScheduleView.from_status(status) for status in rows]
    schedules, has_more = take_page(entries, limit=limit, default_limit=_PAGE_LIMIT)
    next_cursor = schedules[-1].schedule_id if has_more else None
    view = SchedulePage(schedules=schedules, next_cursor=next_cursor)
    sentence = describe_page(len(schedules), "schedule", next_cursor)
    return tool_result(sentence, view, "\n".join(schedule.line for schedule in schedules))


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

    What it launches cannot be changed: delete it and create another.
    """
    changes = ScheduleChange(cron, timezone, overlap, missed, name, paused, run_now)
    view = await schedule_actions.update_schedule(app, caller, schedule_id, changes)
    sentence = f"{view.schedule_id} ({view.name}): {view.summary}"
    return tool_result(sentence, view, view.describe())


async def delete_schedule(
    schedule_id: ScheduleId, *, app: AppDep, caller: CallerDep
) -> Annotated[CallToolResult, DeletedScheduleView]:
    """End a schedule for good, and forget its secrets.

    The jobs it made stay, and those under way go on; cancel_job stops one.
    """
    view = await schedule_actions.delete_schedule(app, caller, schedule_id)
    return tool_result(f"{view.schedule_id} ({view.name}) is deleted; it fires no more.", view)


def build_tools() -> list[McpTool]:
    """Publish these tools."""
    return [
        build_tool(
            create_schedule,
            "Create a schedule",
            CREATES,
            *ACTING_SCOPES,
            scope_finder=find_schedule_scopes,
        ),
        build_tool(list_schedules, "List schedules", READ_ONLY),
        build_tool(
            update_schedule,
            "Change a schedule",
            CREATES,
            *ACTING_SCOPES,
        ),
        build_tool(delete_schedule, "Delete a schedule", DESTRUCTIVE, *ACTING_SCOPES),
    ]
