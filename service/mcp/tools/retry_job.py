"""The tool that runs a job again."""

from typing import Annotated, Any

from mcp_types import CallToolResult
from pydantic import Field

from schema.db.database import Transaction
from schema.jobs.queries import JobStatus
from schema.specs.base import Spec
from schema.specs.batch import BatchSpec
from schema.workspaces import store as workspace_store
from service.auth.caller import ACTING_SCOPES, Caller
from service.jobs import batches, operations, retries
from service.jobs.approval import describe_work, price_launch
from service.jobs.batches import CopiedItems
from service.jobs.launch import LaunchRequest
from service.jobs.scopes import find_retry_scopes
from service.jobs.secrets import split_secrets
from service.mcp.confirmation import ConfirmationToken, approved_request
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import CREATES, McpTool, ToolArguments, build_tool
from service.mcp.tools.arguments import (
    IdempotencyKey,
    JobId,
    MaxCostUsd,
    Secrets,
)
from service.mcp.tools.launch_answer import launch
from service.views.job_kinds import describe_kind, expect_launch_tool
from service.views.jobs import LaunchedView


class RetryJobArguments(ToolArguments):
    """Arguments of retry_job."""

    job_id: JobId
    overrides: Annotated[
        dict[str, Any] | None,
        Field(description="As in the launch: image, command, flavor, env; or model, inputs…"),
    ] = None
    secrets: Secrets = None
    only_failed: Annotated[
        bool, Field(description="Of a batch: only the items that have no result.")
    ] = True
    idempotency_key: IdempotencyKey = None
    max_cost_usd: MaxCostUsd = None
    confirm: ConfirmationToken = None


async def _build_request(
    arguments: RetryJobArguments, app: AppDep, caller: CallerDep
) -> LaunchRequest:
    async with app.transaction(caller) as tx:
        earlier = await operations.find_job(tx, caller, arguments.job_id)
        caller.require_scope(describe_kind(earlier.kind).scope)
        expect_launch_tool(earlier.kind)
        plan = retries.plan_retry(earlier, arguments.overrides or {}, arguments.secrets or {})
        retries.expect_useful_retry(earlier, plan)
        spec, copied_items = await _copy_items(
            tx, earlier, plan.spec, only_failed=arguments.only_failed
        )
        threshold = await _read_approval_threshold(tx, caller, earlier)
    return LaunchRequest(
        kind=earlier.kind,
        title=plan.title,
        namespace=caller.resolve_namespace(earlier.namespace),
        spec=spec.to_stored_json(),
        labels=earlier.labels,
        workspace_id=earlier.workspace_id,
        idempotency_key=arguments.idempotency_key,
        secrets=split_secrets(arguments.secrets).values,
        rate=await price_launch(app, plan.spec, arguments.max_cost_usd),
        work=describe_work(plan.spec),
        approval_threshold_micro_usd=threshold,
        rerun_of=earlier.id,
        notes=retries.describe_caveats(earlier, plan),
        attachment=copied_items,
    )


async def _copy_items(
    tx: Transaction, earlier: JobStatus, spec: Spec, *, only_failed: bool
) -> tuple[Spec, CopiedItems | None]:
    """Take over what is not in the request of the earlier job: the items of a batch."""
    if not isinstance(spec, BatchSpec):
        return spec, None
    return await batches.copy_batch(tx, earlier, spec, only_failed=only_failed)


async def _read_approval_threshold(
    tx: Transaction, caller: Caller, earlier: JobStatus
) -> int | None:
    if earlier.workspace_id is None:
        return None
    workspace = await workspace_store.get_workspace(tx, caller.subject_id, earlier.workspace_id)
    return None if workspace is None else workspace.confirm_above_micro_usd


async def retry_job(
    arguments: RetryJobArguments,
    *,
    app: AppDep,
    caller: CallerDep,
    request: Annotated[LaunchRequest, approved_request(_build_request)],
) -> Annotated[CallToolResult, LaunchedView]:
    """Run a job that is over once more, with what you override, as a new job that is paid anew.

    env and parameters are joined with what there was; null takes one away. Secrets have to be
    given again. A retry that could only fail alike is refused, with what to change.
    """
    return await launch(app, caller, request)


def build_tools() -> list[McpTool]:
    """Publish this tool."""
    return [
        build_tool(
            retry_job,
            "Run a job again",
            CREATES,
            *ACTING_SCOPES,
            scope_finder=find_retry_scopes,
        )
    ]
