"""The tool that asks a model."""

from typing import Annotated, Any

from mcp_types import CallToolResult
from pydantic import Field

from schema.jobs.dependencies import DependencyCondition
from schema.jobs.tables import JobKind
from schema.specs.batch import MAX_CONCURRENCY, MAX_ITEMS, MAX_TRIES, BatchSpec, Item, OnUnknown
from schema.specs.hub_job import Labels
from schema.specs.inference import BillingAccount, ModelId, Provider, Task, TaskParameters
from service.auth.caller import Caller, Scope
from service.jobs import batches
from service.jobs.approval import price_launch
from service.jobs.batches import BatchArguments
from service.jobs.defaults import resolve_defaults
from service.jobs.dry_run import LaunchAnswer
from service.jobs.launch import LaunchRequest
from service.mcp.confirmation import Approval, ConfirmationToken, require_approval
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import CREATES, McpTool, build_tool
from service.mcp.tools.approval_questions import call_question
from service.mcp.tools.arguments import (
    AfterCondition,
    CallTimeout,
    DisplayName,
    DryRun,
    IdempotencyKey,
    LaunchWorkspaceId,
    MaxCostUsd,
    ParentHandles,
)
from service.mcp.tools.launch_answer import launch_or_dry_run
from service.runtime.context import App
from service.views.job_summary import shorten_title


async def launch_inference(
    model: Annotated[ModelId, Field(description="A model's id at the Hub.")],
    inputs: Annotated[
        str | list[str | dict[str, Any]] | dict[str, Any] | None,
        Field(
            description="A text; the messages of a chat; texts to embed; for a picture or sound "
            '{"url": "https://…"} or {"data": "<base64>"}, beside it "prompt" to change a picture.'
        ),
    ] = None,
    items: Annotated[
        list[Item] | None,
        Field(max_length=MAX_ITEMS, description="Instead of inputs: a batch, a call for each."),
    ] = None,
    items_from: Annotated[
        str | None,
        Field(description="Instead of items: hf://datasets/… or hf://buckets/…, one on a line."),
    ] = None,
    task: Task = "chat-completion",
    parameters: Annotated[
        TaskParameters | None, Field(description="Such as max_tokens, temperature.")
    ] = None,
    provider: Annotated[
        Provider | None, Field(description="An Inference Provider, or any.")
    ] = None,
    bill_to: Annotated[
        BillingAccount | None, Field(description="An organisation that pays; else you.")
    ] = None,
    timeout: CallTimeout = "10m",  # how long the call may take, not this one
    concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] = 8,
    on_unknown: Annotated[
        OnUnknown, Field(description="Of a batch, what becomes of items whose answer was lost.")
    ] = "report",
    max_tries: Annotated[int, Field(ge=1, le=MAX_TRIES)] = 4,
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
    approval: Annotated[Approval, require_approval(call_question)],
) -> Annotated[CallToolResult, LaunchAnswer]:
    """Have a model at Inference Providers answer: text, embeddings, pictures, speech, film.

    Answers at once with a handle; what the model makes becomes the job's result, pictures and the
    like its files: wait_for_jobs, then job_result, which is kept for {retention}. The call is sent
    once; if its answer is lost, the job fails as outcome_unknown and is not repeated. A batch goes
    on after a crash and repeats no item that is done; job_result shows its items, also meanwhile.
    """
    request = await build_inference_request(
        app,
        caller,
        model=model,
        inputs=inputs,
        many=BatchArguments(items, items_from, concurrency, on_unknown, max_tries),
        task=task,
        parameters=parameters,
        provider=provider,
        bill_to=bill_to,
        timeout=timeout,
        labels=labels,
        name=name,
        workspace_id=workspace_id,
        idempotency_key=idempotency_key or approval.idempotency_key,
        max_cost_usd=max_cost_usd,
    )
    return await launch_or_dry_run(
        app, caller, request, parent_handles=after, dependency_condition=on, dry_run=dry_run
    )


async def build_inference_request(
    app: App,
    caller: Caller,
    *,
    model: str,
    inputs: object = None,
    many: BatchArguments | None = None,
    task: str = "chat-completion",
    parameters: dict[str, Any] | None = None,
    provider: str | None = None,
    bill_to: str | None = None,
    timeout: float | str = "10m",  # how long the call may take, not this one
    labels: dict[str, str] | None = None,
    name: str | None = None,
    workspace_id: str | None = None,
    idempotency_key: str | None = None,
    max_cost_usd: float | None = None,
) -> LaunchRequest:
    """Make a request of the arguments of launch_inference, for now or for a schedule."""
    effective = await resolve_defaults(app, caller, workspace_id, labels=labels)
    spec, beside = await batches.check_inference_spec(
        inputs,
        many or BatchArguments(),
        task=task,
        model=model,
        parameters=parameters or {},
        provider=provider,
        bill_to=bill_to,
        timeout=timeout,
    )
    return LaunchRequest(
        kind=JobKind.BATCH if isinstance(spec, BatchSpec) else JobKind.INFERENCE,
        title=shorten_title(name or spec.title),
        namespace=caller.resolve_namespace(bill_to),
        spec=spec.to_stored_json(),
        labels=effective.labels,
        workspace_id=effective.workspace_id,
        idempotency_key=idempotency_key,
        rate=await price_launch(app, spec, max_cost_usd),
        notes=effective.notes,
        attachment=beside,
    )


def build_tools(retention: str) -> list[McpTool]:
    """Publish this tool."""
    made = build_tool(
        launch_inference,
        "Ask a model",
        CREATES,
        Scope.INFERENCE,
        model="meta-llama/Llama-3.3-70B-Instruct",
        inputs="Name three rivers.",
    )
    made.description = made.description.format(retention=retention)
    return [made]
