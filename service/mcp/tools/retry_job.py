"""The tool that runs a job again."""

from typing import Annotated, Any

from mcp_types import CallToolResult
from pydantic import Field

from schema.jobs.queries import JobStatus
from schema.specs.base import Spec
from schema.specs.batch import BatchSpec
from schema.workspaces import store as workspace_store
from service.auth.caller import Caller, Scope
from service.jobs import batches, operations, retries
from service.jobs.approval import (
    NO_APPROVAL,
    ApprovalQuestion,
    build_approval_question,
    price_launch,
)
from service.jobs.batches import CopiedItems
from service.jobs.launch import LaunchRequest
from service.jobs.retries import RetryPlan
from service.jobs.secrets import split_secrets
from service.mcp.confirmation import Approval, ConfirmationToken, require_approval
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import CREATES, McpTool, build_tool
from service.mcp.tools.arguments import IdempotencyKey, MaxCostUsd, Secrets
from service.mcp.tools.jobs import JobId
from service.mcp.tools.launch_answer import launch_or_dry_run
from service.runtime.context import App
from service.views.job_kinds import describe_kind
from service.views.jobs import LaunchedView

Overrides = Annotated[
    dict[str, Any] | None,
    Field(description="As in the launch: image, command, flavor, timeout, env; or model, inputs…"),
]


OnlyFailed = Annotated[bool, Field(description="Of a batch: only the items that have no result.")]


async def _prepare_retry(
    app: App,
    caller: Caller,
    job_id: str,
    overrides: dict[str, Any] | None,
    secrets: dict[str, str] | None,
) -> tuple[JobStatus, RetryPlan]:
    async with app.transaction(caller) as tx:
        earlier = await operations.find_job(tx, caller, job_id)
    caller.require_scope(describe_kind(earlier.kind).scope)
    rerun = retries.plan_retry(earlier, overrides or {}, secrets or {})
    retries.expect_useful_retry(earlier, rerun)
    return earlier, rerun


async def _copy_items(
    app: App, caller: Caller, earlier: JobStatus, spec: Spec, *, only_failed: bool
) -> tuple[Spec, CopiedItems | None]:
    """Take over from the old one what is not in its request: the items of a batch."""
    if not isinstance(spec, BatchSpec):
        return spec, None
    async with app.transaction(caller) as tx:
        return await batches.copy_batch(tx, earlier, spec, only_failed=only_failed)


async def _price(
    job_id: str,
    overrides: dict[str, Any] | None,
    secrets: dict[str, str] | None,
    idempotency_key: str | None,
    max_cost_usd: float | None,
    app: AppDep,
    caller: CallerDep,
) -> ApprovalQuestion:
    earlier, rerun = await _prepare_retry(app, caller, job_id, overrides, secrets)
    if earlier.workspace_id is None:
        return NO_APPROVAL
    async with app.transaction(caller) as tx:
        workspace = await workspace_store.get_workspace(tx, caller.subject_id, earlier.workspace_id)
    return await build_approval_question(
        app,
        caller,
        rerun.spec,
        threshold_micro_usd=None if workspace is None else workspace.confirm_above_micro_usd,
        idempotency_key=idempotency_key,
        max_cost_usd=max_cost_usd,
    )


async def retry_job(
    job_id: JobId,
    overrides: Overrides = None,
    secrets: Secrets = None,
    only_failed: OnlyFailed = True,  # noqa: FBT002  # filled in by name, from JSON
    idempotency_key: IdempotencyKey = None,
    max_cost_usd: MaxCostUsd = None,
    confirm: ConfirmationToken = None,  # looked at by what gives `confirmed`
    *,
    app: AppDep,
    caller: CallerDep,
    approval: Annotated[Approval, require_approval(_price)],
) -> Annotated[CallToolResult, LaunchedView]:
    """Run a job that is over once more, with what you override, as a new job that is paid anew.

    The old one stays as it is, and rerun_of leads back to it. env and parameters are joined with
    what there was; null takes one away. Secrets have to be given again. A retry that could only
    fail alike is refused, with what to change.
    """
    earlier, rerun = await _prepare_retry(app, caller, job_id, overrides, secrets)
    spec, beside = await _copy_items(app, caller, earlier, rerun.spec, only_failed=only_failed)
    request = LaunchRequest(
        kind=earlier.kind,
        title=rerun.title,
        namespace=caller.resolve_namespace(earlier.namespace),
        spec=spec.to_stored_json(),
        attachment=beside,
        labels=earlier.labels,
        workspace_id=earlier.workspace_id,
        idempotency_key=idempotency_key or approval.idempotency_key,
        secrets=split_secrets(secrets).values,
        rate=await price_launch(app, rerun.spec, max_cost_usd),
        rerun_of=earlier.id,
        notes=retries.describe_caveats(earlier, rerun),
    )
    return await launch_or_dry_run(app, caller, request)


def build_tools() -> list[McpTool]:
    """Publish this tool."""
    return [
        build_tool(
            retry_job,
            "Run a job again",
            CREATES,
            *Scope,
            job_id="job_01krz4c0s0e5xv4k6w2q8ntb7m",
            overrides={"flavor": "a10g-large"},
        )
    ]
