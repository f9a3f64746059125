"""The tool that calls a Gradio Space."""

from dataclasses import replace
from typing import Annotated

from mcp_types import CallToolResult
from pydantic import Field

from schema.jobs.tables import JobKind
from schema.specs.hub_job import Labels
from schema.specs.space import ApiName, SpaceArguments, SpaceCallSpec, SpaceName
from schema.specs.validation_errors import validate_spec
from service.auth.caller import Caller, Scope
from service.jobs.approval import describe_work
from service.jobs.defaults import resolve_defaults
from service.jobs.dry_run import LaunchAnswer
from service.jobs.launch import LaunchRequest
from service.jobs.scopes import find_call_scopes
from service.mcp.confirmation import approved_request
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import CREATES, McpTool, ToolArguments, build_tool
from service.mcp.tools.arguments import (
    CallTimeout,
    DisplayName,
    LaunchWorkspaceId,
    SingleLaunchArguments,
)
from service.mcp.tools.launch_answer import for_single_job, launch_or_dry_run
from service.runtime.context import App
from service.views.job_summary import shorten_title

SpaceDryRun = Annotated[
    bool, Field(description="Only check it; without arguments, show what can be called.")
]


class SpaceCallArguments(ToolArguments):
    """Arguments that say which call of a Space: of a launch, and of a schedule's launches."""

    space: Annotated[SpaceName, Field(description='"owner/name".')]
    api_name: Annotated[
        ApiName | None, Field(description='Such as "/predict"; not needed if there is but one.')
    ] = None
    arguments: Annotated[
        SpaceArguments | None,
        Field(
            description='By name or in order; a file is {"url": "https://… or hf://…"} or '
            '{"base64", "name"}.'
        ),
    ] = None
    timeout: CallTimeout = "10m"  # how long the call may take, not this one
    labels: Labels | None = None
    name: DisplayName = None
    workspace_id: LaunchWorkspaceId = None


class LaunchSpaceCallArguments(SingleLaunchArguments, SpaceCallArguments):
    """Arguments of launch_space_call."""

    dry_run: SpaceDryRun = False


async def build_space_request(
    app: App, caller: Caller, arguments: SpaceCallArguments
) -> LaunchRequest:
    """Check the arguments of a call by themselves; `check_endpoint` asks the Space.

    Raises:
        Invalid: with a sentence for each argument that is wrong.
        NotFound: the caller has no such workspace.
    """
    resolved = await resolve_defaults(app, caller, arguments.workspace_id, labels=arguments.labels)
    spec = validate_spec(SpaceCallSpec, **arguments.select_fields(SpaceCallSpec))
    return LaunchRequest(
        kind=JobKind.SPACE_CALL,
        title=shorten_title(arguments.name or spec.title),
        namespace=caller.name,
        spec=spec.to_stored_json(),
        labels=resolved.labels,
        workspace_id=resolved.workspace_id,
        idempotency_key=None,
        work=describe_work(spec),
        approval_threshold_micro_usd=resolved.approval_threshold_micro_usd,
        notes=resolved.notes,
    )


async def check_endpoint(
    app: App, caller: Caller, request: LaunchRequest, *, describe: bool = False
) -> LaunchRequest:
    """Check a call against what its Space takes, and note what there is to know about it.

    A call that repeats one under its idempotency key passes: it finds its job, whatever has become
    of the Space.

    Args:
        app: the application.
        caller: who calls; the Hub shows the Spaces that they may see.
        request: a request of `build_space_request`, with its idempotency key.
        describe: whether to note the endpoints instead.
    """
    notes = await app.space_catalog.check_call(
        caller,
        validate_spec(SpaceCallSpec, **request.spec),
        idempotency_key=request.idempotency_key,
        describe=describe,
    )
    return replace(request, notes=[*request.notes, *notes])


async def _build_request(
    arguments: LaunchSpaceCallArguments, app: AppDep, caller: CallerDep
) -> LaunchRequest:
    return for_single_job(app, await build_space_request(app, caller, arguments), arguments)


async def launch_space_call(
    arguments: LaunchSpaceCallArguments,
    *,
    app: AppDep,
    caller: CallerDep,
    request: Annotated[LaunchRequest, approved_request(_build_request)],
) -> Annotated[CallToolResult, LaunchAnswer]:
    """Call an endpoint of a Gradio Space at Hugging Face, as you; ZeroGPU counts for your quota.

    Begin with dry_run=true and only space: it shows the endpoints. Next: wait_for_jobs, then
    job_result, kept for {retention}. The call is made once; if its answer is lost, the job fails
    as outcome_unknown.
    """
    # After the approval, which may have given the request the key of a job that there is already.
    describe = arguments.dry_run and arguments.arguments is None
    checked_request = await check_endpoint(app, caller, request, describe=describe)
    return await launch_or_dry_run(app, caller, checked_request, arguments)


def build_tools(retention: str) -> list[McpTool]:
    """Publish this tool."""
    return [
        build_tool(
            launch_space_call,
            "Call a Space",
            CREATES,
            Scope.INFERENCE,
            scope_finder=find_call_scopes,
            retention=retention,
        )
    ]
