"""The tool that asks a model."""

from typing import Annotated, Any

from mcp_types import CallToolResult
from pydantic import BeforeValidator, Field, WithJsonSchema

from schema.jobs.tables import JobKind
from schema.specs.batch import MAX_CONCURRENCY, MAX_ITEMS, MAX_TRIES, BatchSpec, Item, OnUnknown
from schema.specs.hub_job import Labels
from schema.specs.inference import (
    BillingAccount,
    InferenceSpec,
    ModelId,
    Provider,
    Task,
    TaskParameters,
)
from schema.specs.inputs.item_lines import read_item_lines
from schema.specs.inputs.upload_handles import find_upload_ids
from service.auth.caller import Caller, Scope
from service.jobs import batches
from service.jobs.approval import describe_work, price_launch
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
    MaxCostUsd,
    SingleLaunchArguments,
)
from service.mcp.tools.launch_answer import for_single_job, launch_or_dry_run
from service.runtime.context import App
from service.views.job_summary import shorten_title


class InferenceArguments(ToolArguments):
    """Arguments that say what a model is asked: in a launch, and in a schedule's launches."""

    model: Annotated[ModelId, Field(description="A model's id at the Hub.")]
    inputs: Annotated[
        str | list[str | dict[str, Any]] | dict[str, Any] | None,
        Field(
            description="A text; the messages of a chat; texts to embed; for a picture or sound "
            '{"url"} (or "upload_…" there) or {"data"} in base 64, beside it "prompt" to change a '
            "picture."
        ),
    ] = None
    items: Annotated[
        list[Annotated[Item, WithJsonSchema({"type": "object"})]] | None,
        BeforeValidator(read_item_lines),
        Field(
            max_length=MAX_ITEMS,
            description="Instead of inputs, a batch: custom_id, inputs and parameters of each "
            "call; or lines for OpenAI.",
        ),
    ] = None
    items_from: Annotated[
        str | None,
        Field(description="Instead of items: hf://datasets/… or hf://buckets/…, one on a line."),
    ] = None
    task: Task = "chat-completion"
    parameters: Annotated[
        TaskParameters | None,
        Field(description="Such as max_tokens, or response_format for JSON."),
    ] = None
    provider: Annotated[Provider | None, Field(description="An Inference Provider, or any.")] = None
    bill_to: Annotated[
        BillingAccount | None, Field(description="An organisation that pays; else you.")
    ] = None
    timeout: CallTimeout = "10m"  # how long the call may take, not this one
    concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] = 8
    on_unknown: Annotated[
        OnUnknown, Field(description="Of a batch, what becomes of items whose answer was lost.")
    ] = "report"
    max_tries: Annotated[int, Field(ge=1, le=MAX_TRIES)] = 4
    labels: Labels | None = None
    name: DisplayName = None
    workspace_id: LaunchWorkspaceId = None
    max_cost_usd: MaxCostUsd = None


class LaunchInferenceArguments(SingleLaunchArguments, InferenceArguments):
    """Arguments of launch_inference."""


async def build_inference_request(
    app: App, caller: Caller, arguments: InferenceArguments
) -> LaunchRequest:
    """Check the arguments of a call, or of a batch of calls, item by item.

    Raises:
        Invalid: with a sentence for each argument that is wrong.
        NotFound: the caller has no such workspace.
        NamespaceDenied: the caller's token does not reach the account that is to pay.
    """
    resolved = await resolve_defaults(app, caller, arguments.workspace_id, labels=arguments.labels)
    task = _choose_task(arguments)
    spec, new_items = await batches.check_inference_spec(
        arguments.inputs,
        items=arguments.items,
        items_from=arguments.items_from,
        batch_fields={**arguments.select_fields(BatchSpec), "task": task},
        call_fields=arguments.select_fields(InferenceSpec),
    )
    return LaunchRequest(
        kind=JobKind.BATCH if isinstance(spec, BatchSpec) else JobKind.INFERENCE,
        title=shorten_title(arguments.name or spec.title),
        namespace=caller.resolve_namespace(arguments.bill_to),
        spec=spec.to_stored_json(),
        labels=resolved.labels,
        workspace_id=resolved.workspace_id,
        idempotency_key=None,
        rate=await price_launch(app, spec, arguments.max_cost_usd),
        work=describe_work(spec),
        approval_threshold_micro_usd=resolved.approval_threshold_micro_usd,
        notes=resolved.notes,
        upload_ids=frozenset()
        if new_items is None
        else find_upload_ids([item.request for item in new_items.items]),
        attachment=new_items,
    )


def _choose_task(arguments: InferenceArguments) -> Task:
    """Return the task of a call; of a batch that leaves it open, the one its first item names."""
    first = arguments.items[0].task if arguments.items else None
    return arguments.task if "task" in arguments.model_fields_set else first or arguments.task


async def _build_request(
    arguments: LaunchInferenceArguments, app: AppDep, caller: CallerDep
) -> LaunchRequest:
    return for_single_job(app, await build_inference_request(app, caller, arguments), arguments)


async def launch_inference(
    arguments: LaunchInferenceArguments,
    *,
    app: AppDep,
    caller: CallerDep,
    request: Annotated[LaunchRequest, approved_request(_build_request)],
) -> Annotated[CallToolResult, LaunchAnswer]:
    """Have a model at Inference Providers answer: text, embeddings, pictures, speech, film.

    Next: wait_for_jobs, then job_result, which has the answer and its files for {retention}. The
    call is sent once; if its answer is lost, the job fails as outcome_unknown. A batch goes on
    after a crash and repeats no item that is done; job_result shows its items, also meanwhile.
    """
    return await launch_or_dry_run(app, caller, request, arguments)


def build_tools(retention: str) -> list[McpTool]:
    """Publish this tool."""
    return [
        build_tool(
            launch_inference,
            "Ask a model",
            CREATES,
            Scope.INFERENCE,
            scope_finder=find_call_scopes,
            retention=retention,
        )
    ]
