"""The tool that launches a Hugging Face Job."""

from typing import Annotated

from mcp_types import CallToolResult
from pydantic import BeforeValidator, Field, ValidationInfo

from schema.jobs.tables import JobKind
from schema.specs import command as spec_command
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
from schema.specs.uv import script as spec_script
from schema.specs.uv.python_request import PythonRequest
from schema.specs.uv.script_header import read_header_defaults
from schema.specs.validation_errors import drop_none, validate_spec
from schema.specs.volumes import Volumes
from service.auth.caller import Caller, Scope
from service.jobs.approval import describe_work, price_launch
from service.jobs.defaults import lost_output_notes, output_bucket, resolve_defaults
from service.jobs.dry_run import LaunchAnswer
from service.jobs.launch import LaunchRequest
from service.jobs.scopes import find_job_scopes
from service.jobs.secrets import split_secrets
from service.mcp.confirmation import approved_request
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import CREATES, McpTool, ToolArguments, build_tool
from service.mcp.tools.arguments import (
    DisplayName,
    JobTimeout,
    LaunchWorkspaceId,
    MaxCostUsd,
    Namespace,
    PassToken,
    Secrets,
    SingleLaunchArguments,
)
from service.mcp.tools.launch_answer import for_single_job, launch_or_dry_run
from service.runtime.context import App
from service.views.job_summary import shorten_title


def _parse_command(command: object, validation: ValidationInfo) -> object:
    # An image that is refused is missing here.
    return spec_command.parse_command(
        command, has_image=validation.data.get("image", "") is not None
    )


class HubJobArguments(ToolArguments):
    """Arguments that say what a job is: of a launch, and of a schedule's launches."""

    image: Annotated[
        Image | None, Field(description="Docker, or hf.co/spaces/OWNER/NAME; else python:3.12.")
    ] = None
    command: Annotated[
        list[str] | str | None,
        BeforeValidator(_parse_command),
        Field(description="What runs in it; no shell, unless you call one."),
    ] = None
    script: Annotated[
        spec_script.ScriptText | None,
        Field(description="Instead: Python that uv runs. Its text, or an https or hf:// URL."),
    ] = None
    script_args: spec_script.ScriptArguments | None = None
    dependencies: Annotated[
        spec_script.Requirements | None,
        Field(description="For the script, beside its PEP 723 header."),
    ] = None
    python: Annotated[
        PythonRequest | None, Field(description='Such as "3.12", or a path in the image.')
    ] = None
    flavor: Annotated[
        Flavor | None, Field(description="Hardware, such as a10g-small; else cpu-basic.")
    ] = None
    timeout: Annotated[
        JobTimeout | None,  # how long the job may run, not this call
        Field(description='Seconds, or "1h30m"; else 30m.'),
    ] = None
    env: Annotated[Env | None, Field(description="Readable by others; no secrets.")] = None
    secrets: Secrets = None
    pass_token: PassToken = False
    volumes: Annotated[
        Volumes | None,
        Field(
            description="hf://TYPE/OWNER/NAME[/PATH]:/MOUNT[:ro|:rw]; only buckets are written. "
            "Outputs of a job before: hf://buckets/OWNER/holdfast/[WORKSPACE_ID/]JOB_ID:/in."
        ),
    ] = None
    attempts: Annotated[Attempts, Field(description="Starts, until one succeeds.")] = 1
    expose: Annotated[Ports | None, Field(description="Ports to reach at exposed_urls.")] = None
    ssh: Annotated[bool, Field(description="Logins at ssh_url.")] = False
    resource_group_id: ResourceGroup | None = None
    outputs: Annotated[
        Outputs | None,
        Field(description='Files, or folders ("plots/"), it leaves in $HOLDFAST_OUTPUTS.'),
    ] = None
    namespace: Namespace = None
    labels: Labels | None = None
    name: DisplayName = None
    workspace_id: LaunchWorkspaceId = None
    max_cost_usd: MaxCostUsd = None


class LaunchJobArguments(SingleLaunchArguments, HubJobArguments):
    """Arguments of launch_job."""


async def build_job_request(app: App, caller: Caller, arguments: HubJobArguments) -> LaunchRequest:
    """Check the arguments of a job, with what its workspace fills in, and price it.

    Raises:
        Invalid: with a sentence for each argument that is wrong; or it may cost too much.
        NotFound: the caller has no such workspace.
        NamespaceDenied: the caller's token does not reach the namespace.
    """
    header = read_header_defaults(
        arguments.script,
        drop_none(**{name: getattr(arguments, name) for name in arguments.model_fields_set}),
    )
    arguments = arguments.model_copy(update=header.arguments)
    resolved = await resolve_defaults(
        app,
        caller,
        arguments.workspace_id,
        labels=arguments.labels,
        namespace=arguments.namespace,
        flavor=arguments.flavor,
        timeout=arguments.timeout,
        **({"bucket": None} if arguments.outputs else {}),
    )
    secrets = split_secrets(
        arguments.secrets,
        token_names=frozenset({TOKEN_VARIABLE} if arguments.pass_token else ()),
    )
    namespace = caller.resolve_namespace(resolved.arguments.get("namespace"))
    fields = arguments.select_fields(HubJobSpec)
    fields |= resolved.select_arguments("flavor", "timeout") | secrets.spec_fields()
    if arguments.outputs:
        fields["outputs_in"] = output_bucket(app.output_bucket_name, namespace, resolved)
    spec = validate_spec(HubJobSpec, **fields)
    return LaunchRequest(
        kind=JobKind.HUB_JOB,
        title=shorten_title(arguments.name or spec.title),
        namespace=namespace,
        spec=spec.to_stored_json(),
        labels=resolved.labels,
        workspace_id=resolved.workspace_id,
        idempotency_key=None,
        secrets=secrets.values,
        rate=await price_launch(app, spec, arguments.max_cost_usd),
        work=describe_work(spec),
        approval_threshold_micro_usd=resolved.approval_threshold_micro_usd,
        notes=[*header.notes, *resolved.notes, *lost_output_notes(spec)],
    )


async def _build_request(
    arguments: LaunchJobArguments, app: AppDep, caller: CallerDep
) -> LaunchRequest:
    return for_single_job(app, await build_job_request(app, caller, arguments), arguments)


async def launch_job(
    arguments: LaunchJobArguments,
    *,
    app: AppDep,
    caller: CallerDep,
    request: Annotated[LaunchRequest, approved_request(_build_request)],
) -> Annotated[CallToolResult, LaunchAnswer]:
    """Run a command or a script in a container on Hugging Face Jobs, paid by your account there.

    Answers at once with a handle; the job goes on whatever becomes of this client or server. Next:
    wait_for_jobs, then job_result and job_logs. Its disk is lost at the end: what is to be kept it
    writes into $HOLDFAST_OUTPUTS, a private bucket's folder, and if you name it in outputs, the job
    fails unless it is there. Handle, log and result are kept for {retention} after it has
    finished.
    """
    return await launch_or_dry_run(app, caller, request, arguments)


def build_tools(retention: str) -> list[McpTool]:
    """Publish this tool."""
    return [
        build_tool(
            launch_job,
            "Launch a job",
            CREATES,
            Scope.JOBS,
            scope_finder=find_job_scopes,
            retention=retention,
        )
    ]
