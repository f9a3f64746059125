"""The tool that asks a model."""

from typing import Annotated, Any

from mcp_types import CallToolResult
from pydantic import Field

from schema.jobs.dependencies import On
from schema.jobs.tables import JobKind
from schema.specs.batch import MOST_AT_ONCE, MOST_ITEMS, MOST_TRIES, BatchSpec, Item, OnUnknown
from schema.specs.hub_job import Labels
from schema.specs.inference import Account, Model, Parameters, Provider, Task
from service.auth.caller import Caller, Scope
from service.jobs import batches
from service.jobs.approval import price
from service.jobs.batches import Many
from service.jobs.defaults import resolve
from service.jobs.dry_run import LaunchAnswer
from service.jobs.launch import Request
from service.mcp.confirmation import Confirm, Confirmed, confirmed_by
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import MAKES, Contract, contract
from service.mcp.tools.approval_questions import call_question
from service.mcp.tools.arguments import (
    After,
    AfterOn,
    CallTimeout,
    DryRun,
    Group,
    Key,
    MostCost,
    Name,
)
from service.mcp.tools.launch_answer import launch
from service.runtime.context import App
from service.views.job_summary import entitled


async def launch_inference(
    model: Annotated[Model, Field(description="A model's id at the Hub.")],
    inputs: Annotated[
        str | list[str | dict[str, Any]] | dict[str, Any] | None,
        Field(
            description="A text; the messages of a chat; texts to embed; for a picture or sound "
            '{"url": "https://…"} or {"data": "<base64>"}, beside it "prompt" to change a picture.'
        ),
    ] = None,
    items: Annotated[
        list[Item] | None,
        Field(max_length=MOST_ITEMS, description="Instead of inputs: a batch, a call for each."),
    ] = None,
    items_from: Annotated[
        str | None,
        Field(description="Instead of items: hf://datasets/… or hf://buckets/…, one on a line."),
    ] = None,
    task: Task = "chat-completion",
    parameters: Annotated[
        Parameters | None, Field(description="Such as max_tokens, temperature.")
    ] = None,
    provider: Annotated[
        Provider | None, Field(description="An Inference Provider, or any.")
    ] = None,
    bill_to: Annotated[
        Account | None, Field(description="An organisation that pays; else you.")
    ] = None,
    timeout: CallTimeout = "10m",  # noqa: ASYNC109  # how long the call may take, not this one
    concurrency: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = 8,
    on_unknown: Annotated[
        OnUnknown, Field(description="Of a batch, what becomes of items whose answer was lost.")
    ] = "report",
    max_tries: Annotated[int, Field(ge=1, le=MOST_TRIES)] = 4,
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
    confirmed: Annotated[Confirmed, confirmed_by(call_question)],
) -> Annotated[CallToolResult, LaunchAnswer]:
    """Have a model at Inference Providers answer: text, embeddings, pictures, speech, film.

    Answers at once with a handle; what the model makes becomes the job's result, pictures and the
    like its files: wait_for_jobs, then job_result, which is kept for {retention}. The call is sent
    once; if its answer is lost, the job fails as outcome_unknown and is not repeated. A batch goes
    on after a crash and repeats no item that is done; job_result shows its items, also meanwhile.
    """
    request = await call_request(
        app,
        caller,
        model=model,
        inputs=inputs,
        many=Many(items, items_from, concurrency, on_unknown, max_tries),
        task=task,
        parameters=parameters,
        provider=provider,
        bill_to=bill_to,
        timeout=timeout,
        labels=labels,
        name=name,
        workspace_id=workspace_id,
        idempotency_key=idempotency_key or confirmed.once,
        max_cost_usd=max_cost_usd,
    )
    return await launch(app, caller, request, after=after, on=on, dry_run=dry_run)


async def call_request(
    app: App,
    caller: Caller,
    *,
    model: str,
    inputs: object = None,
    many: Many | None = None,
    task: str = "chat-completion",
    parameters: dict[str, Any] | None = None,
    provider: str | None = None,
    bill_to: str | None = None,
    timeout: float | str = "10m",  # noqa: ASYNC109  # how long the call may take, not this one
    labels: dict[str, str] | None = None,
    name: str | None = None,
    workspace_id: str | None = None,
    idempotency_key: str | None = None,
    max_cost_usd: float | None = None,
) -> Request:
    """Make a request of the arguments of launch_inference, for now or for a schedule."""
    effective = await resolve(app, caller, workspace_id, labels=labels)
    spec, beside = await batches.one_or_many(
        inputs,
        many or Many(),
        task=task,
        model=model,
        parameters=parameters or {},
        provider=provider,
        bill_to=bill_to,
        timeout=timeout,
    )
    return Request(
        kind=JobKind.BATCH if isinstance(spec, BatchSpec) else JobKind.INFERENCE,
        title=entitled(name or spec.title),
        namespace=caller.namespace(bill_to),
        spec=spec.stored(),
        labels=effective.labels,
        workspace_id=effective.workspace_id,
        idempotency_key=idempotency_key,
        rate=await price(app, spec, max_cost_usd),
        notes=effective.notes,
        beside=beside,
    )


def contracts(retention: str) -> list[Contract]:
    """Publish this tool."""
    made = contract(
        launch_inference,
        "Ask a model",
        MAKES,
        Scope.INFERENCE,
        model="meta-llama/Llama-3.3-70B-Instruct",
        inputs="Name three rivers.",
    )
    made.description = made.description.format(retention=retention)
    return [made]
