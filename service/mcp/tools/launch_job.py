"""The tool that launches a Hugging Face Job."""

from typing import Annotated, Any

from mcp_types import CallToolResult
from pydantic import BeforeValidator, Field

from schema.jobs.dependencies import On
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
from schema.specs.validation_errors import checked, given
from schema.specs.volumes import Volumes
from service.auth.caller import Caller, Scope
from service.jobs.approval import price
from service.jobs.defaults import nothing_survives, place, resolve
from service.jobs.dry_run import LaunchAnswer
from service.jobs.launch import Request
from service.jobs.secrets import entrust
from service.mcp.confirmation import Confirm, Confirmed, confirmed_by
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import MAKES, Contract, contract
from service.mcp.tools.approval_questions import job_question
from service.mcp.tools.arguments import (
    After,
    AfterOn,
    DryRun,
    Group,
    JobTimeout,
    Key,
    MostCost,
    Name,
    Namespace,
    PassToken,
    Secrets,
)
from service.mcp.tools.launch_answer import launch
from service.runtime.context import App
from service.views.job_summary import entitled


async def launch_job(
    image: Annotated[
        Image | None, Field(description="Docker, or hf.co/spaces/OWNER/NAME; else python:3.12.")
    ] = None,
    command: Annotated[
        list[str] | str | None,
        BeforeValidator(spec_command.read),
        Field(description="What runs in it; no shell, unless you call one."),
    ] = None,
    script: Annotated[
        spec_script.Text | None,
        Field(description="Instead: Python that uv runs. Its text, or an https URL; no path."),
    ] = None,
    script_args: spec_script.Arguments | None = None,
    dependencies: Annotated[
        spec_script.Requirements | None,
        Field(description="For the script, beside its PEP 723 header."),
    ] = None,
    python: Annotated[spec_script.Python | None, Field(description='Such as "3.12".')] = None,
    flavor: Annotated[
        Flavor | None, Field(description="Hardware, such as a10g-small; else cpu-basic.")
    ] = None,
    timeout: JobTimeout | None = None,  # noqa: ASYNC109  # how long the job may run, not this call
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
    name: Name = None,
    workspace_id: Group = None,
    idempotency_key: Key = None,
    max_cost_usd: MostCost = None,
    after: After = None,
    on: AfterOn = On.SUCCESS,
    dry_run: DryRun = False,  # noqa: FBT002  # filled in by name, from JSON
    confirm: Confirm = None,  # looked at by what gives `confirmed`
    *,
    app: AppDep,
    caller: CallerDep,
    confirmed: Annotated[Confirmed, confirmed_by(job_question)],
) -> Annotated[CallToolResult, LaunchAnswer]:
    """Run a command or a script in a container on Hugging Face Jobs, paid by your account there.

    Answers at once with a handle; the job goes on whatever becomes of this client or server. Next:
    wait_for_jobs, then job_result and job_logs. Its disk is lost at the end: what is to be kept it
    writes into $HOLDFAST_OUTPUTS, a private bucket's folder, and if you name it in outputs, the job
    fails unless it is there. Handle, log and result are kept for {retention} after it has
    finished. Never launch again because you lost track: list_jobs has every job. Pass an
    idempotency_key if you may have to repeat the call.
    """
    request = await job_request(
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
        idempotency_key=idempotency_key or confirmed.once,
        max_cost_usd=max_cost_usd,
    )
    return await launch(app, caller, request, after=after, on=on, dry_run=dry_run)


async def job_request(
    app: App,
    caller: Caller,
    *,
    flavor: str | None = None,
    timeout: float | str | None = None,  # noqa: ASYNC109  # how long the job may run, not this call
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
) -> Request:
    """Make a request of the arguments of launch_job, for now or for a schedule."""
    effective = await resolve(
        app,
        caller,
        workspace_id,
        labels=labels,
        namespace=namespace,
        flavor=flavor,
        timeout=timeout,
        **({"bucket": None} if outputs else {}),
    )
    entrusted = entrust(secrets, tokens=frozenset({TOKEN_VARIABLE} if pass_token else ()))
    payer = caller.namespace(effective.given.get("namespace"))
    spec = checked(
        HubJobSpec,
        **given(**asked),
        **effective.only("flavor", "timeout"),
        **entrusted.asked(),
        outputs=outputs or [],
        outputs_in=place(app.bucket, payer, effective) if outputs else None,
    )
    return Request(
        kind=JobKind.HUB_JOB,
        title=entitled(name or spec.title),
        namespace=payer,
        spec=spec.stored(),
        labels=effective.labels,
        workspace_id=effective.workspace_id,
        idempotency_key=idempotency_key,
        secrets=entrusted.sealed,
        rate=await price(app, spec, max_cost_usd),
        notes=[*effective.notes, *nothing_survives(spec)],
    )


def contracts(retention: str) -> list[Contract]:
    """Publish this tool."""
    made = contract(
        launch_job,
        "Launch a job",
        MAKES,
        Scope.JOBS,
        image="python:3.12",
        command=["python", "-c", "print(1)"],
    )
    made.description = made.description.format(retention=retention)
    return [made]
