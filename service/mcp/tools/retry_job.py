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
from service.jobs.approval import UNASKED, Question, price, question
from service.jobs.batches import TakenOver
from service.jobs.launch import Request
from service.jobs.retries import Rerun
from service.jobs.secrets import entrust
from service.mcp.confirmation import Confirm, Confirmed, confirmed_by
from service.mcp.dependencies import AppDep, CallerDep
from service.mcp.tool import MAKES, Contract, contract
from service.mcp.tools.arguments import Key, MostCost, Secrets
from service.mcp.tools.jobs import JobId
from service.mcp.tools.launch_answer import launch
from service.runtime.context import App
from service.views.job_kinds import known
from service.views.jobs import LaunchedView

Overrides = Annotated[
    dict[str, Any] | None,
    Field(description="As in the launch: image, command, flavor, timeout, env; or model, inputs…"),
]


OnlyFailed = Annotated[bool, Field(description="Of a batch: only the items that have no result.")]


async def _rerun(
    app: App,
    caller: Caller,
    job_id: str,
    overrides: dict[str, Any] | None,
    secrets: dict[str, str] | None,
) -> tuple[JobStatus, Rerun]:
    async with app.transaction(caller) as tx:
        earlier = await operations.find(tx, caller, job_id)
    caller.expect(known(earlier.kind).scope)
    rerun = retries.rewrite(earlier, overrides or {}, secrets or {})
    retries.expect_of_use(earlier, rerun)
    return earlier, rerun


async def _beside(
    app: App, caller: Caller, earlier: JobStatus, spec: Spec, *, only_failed: bool
) -> tuple[Spec, TakenOver | None]:
    """Take over from the old one what is not in its request: the items of a batch."""
    if not isinstance(spec, BatchSpec):
        return spec, None
    async with app.transaction(caller) as tx:
        return await batches.again(tx, earlier, spec, only_failed=only_failed)


async def _price(
    job_id: str,
    overrides: dict[str, Any] | None,
    secrets: dict[str, str] | None,
    idempotency_key: str | None,
    max_cost_usd: float | None,
    app: AppDep,
    caller: CallerDep,
) -> Question:
    earlier, rerun = await _rerun(app, caller, job_id, overrides, secrets)
    if earlier.workspace_id is None:
        return UNASKED
    async with app.transaction(caller) as tx:
        workspace = await workspace_store.workspace(tx, caller.subject_id, earlier.workspace_id)
    return await question(
        app,
        caller,
        rerun.spec,
        threshold=None if workspace is None else workspace.confirm_above_micro_usd,
        idempotency_key=idempotency_key,
        max_cost_usd=max_cost_usd,
    )


async def retry_job(
    job_id: JobId,
    overrides: Overrides = None,
    secrets: Secrets = None,
    only_failed: OnlyFailed = True,  # noqa: FBT002  # filled in by name, from JSON
    idempotency_key: Key = None,
    max_cost_usd: MostCost = None,
    confirm: Confirm = None,  # looked at by what gives `confirmed`
    *,
    app: AppDep,
    caller: CallerDep,
    confirmed: Annotated[Confirmed, confirmed_by(_price)],
) -> Annotated[CallToolResult, LaunchedView]:
    """Run a job that is over once more, with what you override, as a new job that is paid anew.

    The old one stays as it is, and rerun_of leads back to it. env and parameters are joined with
    what there was; null takes one away. Secrets have to be given again. A retry that could only
    fail alike is refused, with what to change.
    """
    earlier, rerun = await _rerun(app, caller, job_id, overrides, secrets)
    spec, beside = await _beside(app, caller, earlier, rerun.spec, only_failed=only_failed)
    request = Request(
        kind=earlier.kind,
        title=rerun.title,
        namespace=caller.namespace(earlier.namespace),
        spec=spec.stored(),
        beside=beside,
        labels=earlier.labels,
        workspace_id=earlier.workspace_id,
        idempotency_key=idempotency_key or confirmed.once,
        secrets=entrust(secrets).sealed,
        rate=await price(app, rerun.spec, max_cost_usd),
        rerun_of=earlier.id,
        notes=retries.caveats(earlier, rerun),
    )
    return await launch(app, caller, request)


def contracts() -> list[Contract]:
    """Publish this tool."""
    return [
        contract(
            retry_job,
            "Run a job again",
            MAKES,
            *Scope,
            job_id="job_01krz4c0s0e5xv4k6w2q8ntb7m",
            overrides={"flavor": "a10g-large"},
        )
    ]
