"""The tools that begin work; they answer as soon as it can no longer be lost."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated

from mcp_types import CallToolResult
from pydantic import BeforeValidator, Field

from schema import commands
from schema.job import JobKind
from schema.money import micro, say_usd
from schema.spec import (
    Env,
    Flavor,
    HubJobSpec,
    Image,
    InferenceSpec,
    Labels,
    Message,
    Model,
    Parameters,
    Provider,
    Task,
    read_call_timeout,
    read_job_timeout,
)
from schema.vault import Secret
from service import jobs
from service.agreement import call_question, job_question, price
from service.arguments import checked
from service.auth.caller import Scope
from service.confirmation import Confirm, Confirmed, confirmed_by
from service.context import AppDep, CallerDep
from service.dry_run import DryRunView, LaunchAnswer, rehearse
from service.effective import resolve
from service.jobs import Request
from service.resources import link_to
from service.sdk import MAKES, Contract, contract, told
from service.views import LaunchedView
from service.wording import entitled


def _readable(read: Callable[[object], timedelta]) -> BeforeValidator:
    """Check a duration with all the other arguments, so that everything wrong is told at once."""

    def check(written: object) -> object:
        read(written)
        return written

    return BeforeValidator(check)


Written = Annotated[int | float | str, Field(description='Seconds, or "90m", "1h30m".')]
JobTimeout = Annotated[Written, _readable(read_job_timeout)]
CallTimeout = Annotated[Written, _readable(read_call_timeout)]
Name = Annotated[str | None, Field(min_length=1, max_length=200, description="For people.")]
Key = Annotated[
    str | None,
    Field(
        min_length=1, max_length=200, description="Repeated with it, a call finds the job it made."
    ),
]
Namespace = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=100,
        description="An organisation that runs it and pays; else your own.",
    ),
]
Secrets = Annotated[
    dict[str, Annotated[str, Field(min_length=1, max_length=10_000)]] | None,
    Field(description="Like env, sealed: nobody reads them back."),
]
PassToken = Annotated[
    bool,
    Field(description="Hand your token over as HF_TOKEN: that code then acts as you."),
]
MostCost = Annotated[
    float | None, Field(gt=0, le=1e9, description="Refuse it if the worst case is more.")
]
DryRun = Annotated[bool, Field(description="Only check it, and say what it can cost.")]
Group = Annotated[
    str | None,
    Field(description="A handle, ws_…; it also fills in namespace, flavor, timeout and labels."),
]


async def launch_job(
    image: Annotated[Image, Field(description="A Docker image.")],
    command: Annotated[
        list[str] | str,
        BeforeValidator(commands.read),
        Field(description="What runs in it; no shell, unless you call one."),
    ],
    flavor: Annotated[
        Flavor | None, Field(description="Hardware, such as a10g-small; else cpu-basic.")
    ] = None,
    timeout: JobTimeout | None = None,  # noqa: ASYNC109  # how long the job may run, not this call
    env: Annotated[Env | None, Field(description="Readable by others; no secrets.")] = None,
    secrets: Secrets = None,
    pass_token: PassToken = False,  # noqa: FBT002  # filled in by name, from JSON
    namespace: Namespace = None,
    labels: Labels | None = None,
    name: Name = None,
    workspace_id: Group = None,
    idempotency_key: Key = None,
    max_cost_usd: MostCost = None,
    dry_run: DryRun = False,  # noqa: FBT002  # filled in by name, from JSON
    confirm: Confirm = None,  # looked at by what gives `confirmed`
    *,
    app: AppDep,
    caller: CallerDep,
    confirmed: Annotated[Confirmed, confirmed_by(job_question)],
) -> Annotated[CallToolResult, LaunchAnswer]:
    """Run a command in a container on Hugging Face Jobs, paid by your account there.

    Answers at once with a handle; the job goes on whatever becomes of this client or server. Next:
    wait_for_jobs, then job_result and job_logs. Its disk is lost at the end, so let the command
    upload what is to be kept. Handle, log and result are kept for {retention} after it has
    finished. Never launch again because you lost track: list_jobs has every job. Pass an
    idempotency_key if you may have to repeat the call.
    """
    effective = await resolve(
        app,
        caller,
        workspace_id,
        labels=labels,
        namespace=namespace,
        flavor=flavor,
        timeout=timeout,
    )
    spec = checked(
        HubJobSpec,
        image=image,
        command=command,
        **effective.only("flavor", "timeout"),
        env=env or {},
        secrets=list(secrets or {}),
        pass_token=pass_token,
    )
    payer = caller.namespace(effective.given.get("namespace"))
    request = Request(
        kind=JobKind.HUB_JOB,
        title=entitled(name or spec.title),
        namespace=payer,
        spec=spec.stored(),
        labels=effective.labels,
        workspace_id=effective.workspace_id,
        idempotency_key=idempotency_key or confirmed.once,
        secrets={name: Secret(text) for name, text in (secrets or {}).items()},
        rate=await price(app, spec, max_cost_usd),
        notes=effective.notes,
    )
    if dry_run:
        return _rehearsed(await rehearse(app, caller, request))
    await app.expect_may_launch(caller, payer)
    return launched(await jobs.launch(app, caller, request))


async def launch_inference(
    model: Annotated[Model, Field(description="A model's id at the Hub.")],
    inputs: Annotated[
        Annotated[str | list[Message], Field(min_length=1)],
        Field(description="A prompt, or the messages of a chat."),
    ],
    task: Task = "chat-completion",
    parameters: Annotated[
        Parameters | None, Field(description="Such as max_tokens, temperature.")
    ] = None,
    provider: Annotated[
        Provider | None, Field(description="An Inference Provider, or any.")
    ] = None,
    timeout: CallTimeout = "10m",  # noqa: ASYNC109  # how long the call may take, not this one
    labels: Labels | None = None,
    name: Name = None,
    workspace_id: Group = None,
    idempotency_key: Key = None,
    max_cost_usd: MostCost = None,
    dry_run: DryRun = False,  # noqa: FBT002  # filled in by name, from JSON
    confirm: Confirm = None,  # looked at by what gives `confirmed`
    *,
    app: AppDep,
    caller: CallerDep,
    confirmed: Annotated[Confirmed, confirmed_by(call_question)],
) -> Annotated[CallToolResult, LaunchAnswer]:
    """Have a model at Inference Providers answer, paid by your account there.

    Answers at once with a handle; the model's answer becomes the job's result: wait_for_jobs, then
    job_result, which is kept for {retention}. The call is sent once; if its answer is lost, the job
    fails as outcome_unknown and is not repeated behind your back.
    """
    messages = [Message(role="user", content=inputs)] if isinstance(inputs, str) else inputs
    effective = await resolve(app, caller, workspace_id, labels=labels)
    spec = checked(
        InferenceSpec,
        task=task,
        model=model,
        messages=messages,
        parameters=parameters or {},
        provider=provider,
        timeout=timeout,
    )
    request = Request(
        kind=JobKind.INFERENCE,
        title=entitled(name or spec.title),
        namespace=caller.name,
        spec=spec.stored(),
        labels=effective.labels,
        workspace_id=effective.workspace_id,
        idempotency_key=idempotency_key or confirmed.once,
        rate=await price(app, spec, max_cost_usd),
        notes=effective.notes,
    )
    if dry_run:
        return _rehearsed(await rehearse(app, caller, request))
    return launched(await jobs.launch(app, caller, request))


def launched(view: LaunchedView) -> CallToolResult:
    """Answer a launch of whichever kind."""
    sentence = " ".join([f"{view.job_id}: {view.summary}", *view.notes, view.next_step])
    if view.cost.ceiling_usd:
        sentence += f" It costs {say_usd(micro(view.cost.ceiling_usd))} at most."
    if view.possible_duplicate_of is not None:
        sentence += (
            f" The same request made {view.possible_duplicate_of} minutes ago; if this is a repeat,"
            f' call cancel_job(job_id="{view.job_id}").'
        )
    return told(sentence, view, links=[link_to(view)])


def _rehearsed(view: DryRunView) -> CallToolResult:
    if view.ceiling_usd is None:
        cost = "What it costs is not known."
    else:
        cost = f"At worst it costs {say_usd(micro(view.ceiling_usd))}, paid by {view.namespace}."
    if view.needs:
        return told(f"Nothing was launched, and this would not be. {' '.join(view.needs)}", view)
    said = " ".join(["Nothing was launched.", cost, *view.notes])
    return told(f"{said} Leave dry_run out to launch it.", view)


def contracts(retention: str) -> list[Contract]:
    """Publish these tools."""
    made = [
        contract(
            launch_job,
            "Launch a job",
            MAKES,
            Scope.JOBS,
            image="python:3.12",
            command=["python", "-c", "print(1)"],
        ),
        contract(
            launch_inference,
            "Ask a model",
            MAKES,
            Scope.INFERENCE,
            model="meta-llama/Llama-3.3-70B-Instruct",
            inputs="Name three rivers.",
        ),
    ]
    for each in made:
        each.description = each.description.format(retention=retention)
    return made
