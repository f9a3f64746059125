"""The tool that launches a Hugging Face Job."""

from typing import Annotated, Any

from mcp_types import CallToolResult
from pydantic import BeforeValidator, Field

from schema.jobs.dependencies import DependencyCondition
from schema.jobs.tables import JobKind
from schema.specs import command as spec_command
from schema.specs import script as spec_script
from schema.specs.hub_job import (
    TOKEN_VARIABLE,
    Attempts,
    Env,
    Flavor,
    HubJobSpec,
    Labels,
    Ports,
    ResourceGroup,
)
from schema.specs.image import Image
from schema.specs.outputs import Outputs
from schema.specs.validation_errors import drop_none, validate_spec
from schema.specs.volumes import Volumes
from service.auth.caller import Caller, Scope
from service.jobs.approval import price_launch
from service.jobs.defaults import lost_output_notes, output_bucket, resolve_defaults
from service.jobs.dry_run import LaunchAnswer
from service.jobs.launch import LaunchRequest
from service.jobs.secrets import split_secrets
from service.mcp.confirmation import Approval, ConfirmationToken, require_approval
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import CREATES, McpTool, build_tool
from service.mcp.tools.approval_questions import job_question
from service.mcp.tools.arguments import (
    AfterCondition,
    DisplayName,
    DryRun,
    IdempotencyKey,
    JobTimeout,
    LaunchWorkspaceId,
    MaxCostUsd,
    Namespace,
    ParentHandles,
    PassToken,
    Secrets,
)
from service.mcp.tools.launch_answer import launch_or_dry_run
from service.runtime.context import App
from service.views.job_summary import shorten_title


async def launch_job(
    image: Annotated[
        Image | None, Field(description="Docker, or hf.co/spaces/OWNER/NAME; else python:3.12.")
    ] = None,
    command: Annotated[
        list[str] | str | None,
        BeforeValidator(spec_command.parse_command),
        Field(description="What runs in it; no shell, unless you call one."),
    ] = None,
    script: Annotated[
        spec_script.ScriptText | None,
        Field(description="Instead: Python that uv runs. Its text, or an https URL; no path."),
    ] = None,
    script_args: spec_script.ScriptArguments | None = None,
    dependencies: Annotated[
        spec_script.Requirements | None,
        Field(description="For the script, beside its PEP 723 header."),
    ] = None,
    python: Annotated[
        spec_script.PythonVersion | None, Field(description='Such as "3.12".')
    ] = None,
    flavor: Annotated[
        Flavor | None, Field(description="Hardware, such as a10g-small; else cpu-basic.")
    ] = None,
    timeout: JobTimeout | None = None,  # how long the job may run, not this call
    env: Annotated[Env | None, Field(description="Readable by others; no secrets.")] = None,
    secrets: Secrets = None,
    pass_token: PassToken = False,  # noqa: FBT002  # filled in by name, from JSON
    volumes: Annotated[
        Volumes | None,
        Field(description="hf://TYPE/OWNER/NAME[/PATH]:/MOUNT[:ro|:rw]; only buckets are written."),
    ] = None,
    attempts: Annotated[Attempts, Field(description="Starts, until one succeeds.")] = 1,
    expose: Annotated[Ports | None, Field(description="Ports to reach at exposed_urls.")] = None,
    ssh: Annotated[bool, Field(description="Logins at ssh_url.")] = False,  # noqa: FBT002  # filled in by name, from JSON
    resource_group_id: ResourceGroup | None = None,
    outputs: Annotated[
        Outputs | None,
        Field(description='Files, or folders ("plots/"), it leaves in $HOLDFAST_OUTPUTS.'),
    ] = None,
    namespace: Namespace = None,
    labels: Labels | None = None,
    name: DisplayName = None,
    workspace_id: LaunchWorkspaceId = None,
    idempotency_key: IdempotencyKey = None,
    max_cost_usd: MaxCostUsd = None,
    after: ParentHandles = None,
    on: AfterCondition = DependencyCondition.SUCCESS,
    dry_run: DryRun = False,  # noqa: FBT002  # filled in by name, from JSON
    confirm: ConfirmationToken = None,  # looked at by what gives `confirmed`
    *,
    app: AppDep,
    caller: CallerDep,
    approval: Annotated[Approval, require_approval(job_question)],
) -> Annotated[CallToolResult, LaunchAnswer]:
    """Run a command or a script in a container on Hugging Face Jobs, paid by your account there.

    Answers at once with a handle; the job goes on whatever becomes of this client or server. Next:
    wait_for_jobs, then job_result and job_logs. Its disk is lost at the end: what is to be kept it
    writes into $HOLDFAST_OUTPUTS, a private bucket's folder, and if you name it in outputs, the job
    fails unless it is there. Handle, log and result are kept for {retention} after it has
    finished. Never launch again because you lost track: list_jobs has every job. Pass an
    idempotency_key if you may have to repeat the call.
    """
    request = await build_job_request(
        app,
        caller,
        image=image,
        command=command,
        script=script,
        script_args=script_args,
        dependencies=dependencies,
        python=python,
        flavor=flavor,
        timeout=timeout,
        env=env,
        secrets=secrets,
        pass_token=pass_token,
        volumes=volumes,
        attempts=attempts,
        expose=expose,
        ssh=ssh,
        resource_group_id=resource_group_id,
        outputs=outputs,
        namespace=namespace,
        labels=labels,
        name=name,
        workspace_id=workspace_id,
        idempotency_key=idempotency_key or approval.idempotency_key,
        max_cost_usd=max_cost_usd,
    )
    return await launch_or_dry_run(
        app, caller, request, parent_handles=after, dependency_condition=on, dry_run=dry_run
    )


async def build_job_request(
    app: App,
    caller: Caller,
    *,
    flavor: str | None = None,
    timeout: float | str | None = None,  # how long the job may run, not this call
    secrets: dict[str, str] | None = None,
    pass_token: bool = False,
    outputs: list[str] | None = None,
    namespace: str | None = None,
    labels: dict[str, str] | None = None,
    name: str | None = None,
    workspace_id: str | None = None,
    idempotency_key: str | None = None,
    max_cost_usd: float | None = None,
    **asked: Any,
) -> LaunchRequest:
    """Make a request of the arguments of launch_job, for now or for a schedule."""
    effective = await resolve_defaults(
        app,
        caller,
        workspace_id,
        labels=labels,
        namespace=namespace,
        flavor=flavor,
        timeout=timeout,
        **({"bucket": None} if outputs else {}),
    )
    entrusted = split_secrets(
        secrets, token_names=frozenset({TOKEN_VARIABLE} if pass_token else ())
    )
    payer = caller.resolve_namespace(effective.arguments.get("namespace"))
    spec = validate_spec(
        HubJobSpec,
        **drop_none(**asked),
        **effective.select_arguments("flavor", "timeout"),
        **entrusted.spec_fields(),
        outputs=outputs or [],
        outputs_in=output_bucket(app.output_bucket_name, payer, effective) if outputs else None,
    )
    return LaunchRequest(
        kind=JobKind.HUB_JOB,
        title=shorten_title(name or spec.title),
        namespace=payer,
        spec=spec.to_stored_json(),
        labels=effective.labels,
        workspace_id=effective.workspace_id,
        idempotency_key=idempotency_key,
        secrets=entrusted.values,
        rate=await price_launch(app, spec, max_cost_usd),
        notes=[*effective.notes, *lost_output_notes(spec)],
    )


def build_tools(retention: str) -> list[McpTool]:
    """Publish this tool."""
    made = build_tool(
        launch_job,
        "Launch a job",
        CREATES,
        Scope.JOBS,
        image="python:3.12",
        command=["python", "-c", "print(1)"],
    )
    made.description = made.description.format(retention=retention)
    return [made]
