"""The tool that calls a Gradio Space."""

from typing import Annotated, Any

from mcp_types import CallToolResult
from pydantic import Field

from schema.jobs.dependencies import On
from schema.jobs.tables import JobKind
from schema.specs.hub_job import Labels
from schema.specs.space import ApiName, Arguments, SpaceCallSpec, SpaceName
from schema.specs.validation_errors import checked
from service.auth.caller import Caller, Scope
from service.jobs.defaults import resolve
from service.jobs.dry_run import LaunchAnswer
from service.jobs.launch import Request
from service.mcp.confirmation import Confirm, Confirmed, confirmed_by
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import MAKES, Contract, contract
from service.mcp.tools.approval_questions import space_question
from service.mcp.tools.arguments import After, AfterOn, CallTimeout, Group, Key, Name
from service.mcp.tools.launch_answer import launch
from service.runtime.context import App
from service.views.job_summary import entitled

Rehearse = Annotated[
    bool, Field(description="Only check it; without arguments, show what can be called.")
]


async def launch_space_call(
    space: Annotated[SpaceName, Field(description='"owner/name".')],
    api_name: Annotated[
        ApiName | None, Field(description='Such as "/predict"; not needed if there is but one.')
    ] = None,
    arguments: Annotated[
        Arguments | None,
        Field(description='By name or in order; a file is {"url"} or {"base64", "name"}.'),
    ] = None,
    timeout: CallTimeout = "10m",  # noqa: ASYNC109  # how long the call may take, not this one
    labels: Labels | None = None,
    name: Name = None,
    workspace_id: Group = None,
    idempotency_key: Key = None,
    after: After = None,
    on: AfterOn = On.SUCCESS,
    dry_run: Rehearse = False,  # noqa: FBT002  # filled in by name, from JSON
    confirm: Confirm = None,  # looked at by what gives `confirmed`
    *,
    app: AppDep,
    caller: CallerDep,
    confirmed: Annotated[Confirmed, confirmed_by(space_question)],
) -> Annotated[CallToolResult, LaunchAnswer]:
    """Call an endpoint of a Gradio Space at Hugging Face, as you; ZeroGPU counts for your quota.

    Begin with dry_run=true and only space: it shows the endpoints. Answers at once with a handle;
    queue, waking and progress show in wait_for_jobs; outputs and files in job_result, kept for
    {retention}. The call is made once: if its answer is lost, it fails as outcome_unknown.
    """
    request = await space_request(
        app,
        caller,
        space=space,
        api_name=api_name,
        arguments=arguments,
        timeout=timeout,
        labels=labels,
        name=name,
        workspace_id=workspace_id,
        idempotency_key=idempotency_key or confirmed.once,
        describe=dry_run and arguments is None,
    )
    return await launch(app, caller, request, after=after, on=on, dry_run=dry_run)


async def space_request(
    app: App,
    caller: Caller,
    *,
    space: str,
    api_name: str | None = None,
    arguments: dict[str, Any] | list[Any] | None = None,
    timeout: float | str = "10m",  # noqa: ASYNC109  # how long the call may take, not this one
    labels: dict[str, str] | None = None,
    name: str | None = None,
    workspace_id: str | None = None,
    idempotency_key: str | None = None,
    describe: bool = False,
) -> Request:
    """Make a request of the arguments of launch_space_call, for now or for a schedule."""
    effective = await resolve(app, caller, workspace_id, labels=labels)
    spec = checked(
        SpaceCallSpec, space=space, api_name=api_name, arguments=arguments or {}, timeout=timeout
    )
    notes = await app.spaces.expect_callable(caller, spec, key=idempotency_key, describe=describe)
    return Request(
        kind=JobKind.SPACE_CALL,
        title=entitled(name or spec.title),
        namespace=caller.name,
        spec=spec.stored(),
        labels=effective.labels,
        workspace_id=effective.workspace_id,
        idempotency_key=idempotency_key,
        notes=[*effective.notes, *notes],
    )


def contracts(retention: str) -> list[Contract]:
    """Publish this tool."""
    made = contract(
        launch_space_call,
        "Call a Space",
        MAKES,
        Scope.INFERENCE,
        space="black-forest-labs/FLUX.1-schnell",
        api_name="/infer",
        arguments={"prompt": "A lighthouse at dusk."},
    )
    made.description = made.description.format(retention=retention)
    return [made]
