"""The tool that calls a Gradio Space."""

from typing import Annotated, Any

from mcp_types import CallToolResult
from pydantic import Field

from schema.jobs.dependencies import DependencyCondition
from schema.jobs.tables import JobKind
from schema.specs.hub_job import Labels
from schema.specs.space import ApiName, SpaceArguments, SpaceCallSpec, SpaceName
from schema.specs.validation_errors import validate_spec
from service.auth.caller import Caller, Scope
from service.jobs.defaults import resolve_defaults
from service.jobs.dry_run import LaunchAnswer
from service.jobs.launch import LaunchRequest
from service.mcp.confirmation import Approval, ConfirmationToken, require_approval
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import CREATES, McpTool, build_tool
from service.mcp.tools.approval_questions import space_question
from service.mcp.tools.arguments import (
    AfterCondition,
    CallTimeout,
    DisplayName,
    IdempotencyKey,
    LaunchWorkspaceId,
    ParentHandles,
)
from service.mcp.tools.launch_answer import launch_or_dry_run
from service.runtime.context import App
from service.views.job_summary import shorten_title

SpaceDryRun = Annotated[
    bool, Field(description="Only check it; without arguments, show what can be called.")
]


async def launch_space_call(
    space: Annotated[SpaceName, Field(description='"owner/name".')],
    api_name: Annotated[
        ApiName | None, Field(description='Such as "/predict"; not needed if there is but one.')
    ] = None,
    arguments: Annotated[
        SpaceArguments | None,
        Field(description='By name or in order; a file is {"url"} or {"base64", "name"}.'),
    ] = None,
    timeout: CallTimeout = "10m",  # how long the call may take, not this one
    labels: Labels | None = None,
    name: DisplayName = None,
    workspace_id: LaunchWorkspaceId = None,
    idempotency_key: IdempotencyKey = None,
    after: ParentHandles = None,
    on: AfterCondition = DependencyCondition.SUCCESS,
    dry_run: SpaceDryRun = False,  # noqa: FBT002  # filled in by name, from JSON
    confirm: ConfirmationToken = None,  # looked at by what gives `confirmed`
    *,
    app: AppDep,
    caller: CallerDep,
    approval: Annotated[Approval, require_approval(space_question)],
) -> Annotated[CallToolResult, LaunchAnswer]:
    """Call an endpoint of a Gradio Space at Hugging Face, as you; ZeroGPU counts for your quota.

    Begin with dry_run=true and only space: it shows the endpoints. Answers at once with a handle;
    queue, waking and progress show in wait_for_jobs; outputs and files in job_result, kept for
    {retention}. The call is made once: if its answer is lost, it fails as outcome_unknown.
    """
    request = await build_space_request(
        app,
        caller,
        space=space,
        api_name=api_name,
        arguments=arguments,
        timeout=timeout,
        labels=labels,
        name=name,
        workspace_id=workspace_id,
        idempotency_key=idempotency_key or approval.idempotency_key,
        describe=dry_run and arguments is None,
    )
    return await launch_or_dry_run(
        app, caller, request, parent_handles=after, dependency_condition=on, dry_run=dry_run
    )


async def build_space_request(
    app: App,
    caller: Caller,
    *,
    space: str,
    api_name: str | None = None,
    arguments: dict[str, Any] | list[Any] | None = None,
    timeout: float | str = "10m",  # how long the call may take, not this one
    labels: dict[str, str] | None = None,
    name: str | None = None,
    workspace_id: str | None = None,
    idempotency_key: str | None = None,
    describe: bool = False,
) -> LaunchRequest:
    """Make a request of the arguments of launch_space_call, for now or for a schedule."""
    effective = await resolve_defaults(app, caller, workspace_id, labels=labels)
    spec = validate_spec(
        SpaceCallSpec, space=space, api_name=api_name, arguments=arguments or {}, timeout=timeout
    )
    notes = await app.space_catalog.check_call(
        caller, spec, idempotency_key=idempotency_key, describe=describe
    )
    return LaunchRequest(
        kind=JobKind.SPACE_CALL,
        title=shorten_title(name or spec.title),
        namespace=caller.name,
        spec=spec.to_stored_json(),
        labels=effective.labels,
        workspace_id=effective.workspace_id,
        idempotency_key=idempotency_key,
        notes=[*effective.notes, *notes],
    )


def build_tools(retention: str) -> list[McpTool]:
    """Publish this tool."""
    made = build_tool(
        launch_space_call,
        "Call a Space",
        CREATES,
        Scope.INFERENCE,
        space="black-forest-labs/FLUX.1-schnell",
        api_name="/infer",
        arguments={"prompt": "A lighthouse at dusk."},
    )
    made.description = made.description.format(retention=retention)
    return [made]
