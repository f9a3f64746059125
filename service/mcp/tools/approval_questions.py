"""service.mcp.tools.approval_questions."""

from schema.specs.hub_job import HubJobSpec
from schema.specs.inference import InferenceSpec
from schema.specs.space import SpaceCallSpec
from schema.specs.validation_errors import drop_none, validate_spec
from service.jobs.approval import NO_APPROVAL, ApprovalQuestion, build_approval_question
from service.jobs.defaults import resolve_defaults
from service.mcp.dependencies import AppDep, CallerDep


async def job_question(
    image: str | None,
    command: list[str] | None,
    script: str | None,
    attempts: int,
    expose: list[int] | None,
    flavor: str | None,
    timeout: float | str | None,  # how long the job may run, not this call
    workspace_id: str | None,
    idempotency_key: str | None,
    max_cost_usd: float | None,
    dry_run: bool,  # noqa: FBT001  # filled in by name
    app: AppDep,
    caller: CallerDep,
) -> ApprovalQuestion:
    """Resolve what a person would have to agree to before a job is launched."""
    if dry_run or workspace_id is None:
        return NO_APPROVAL
    effective = await resolve_defaults(
        app, caller, workspace_id, labels=None, flavor=flavor, timeout=timeout
    )
    # No more of it than what its price depends on.
    spec = validate_spec(
        HubJobSpec,
        **drop_none(image=image, command=command, script=script, expose=expose),
        **effective.select_arguments("flavor", "timeout"),
        attempts=attempts,
    )
    return await build_approval_question(
        app,
        caller,
        spec,
        threshold_micro_usd=effective.approval_threshold_micro_usd,
        idempotency_key=idempotency_key,
        max_cost_usd=max_cost_usd,
    )


async def call_question(
    model: str,
    workspace_id: str | None,
    idempotency_key: str | None,
    max_cost_usd: float | None,
    dry_run: bool,  # noqa: FBT001  # filled in by name
    app: AppDep,
    caller: CallerDep,
) -> ApprovalQuestion:
    """Resolve what a person would have to agree to before a model is asked."""
    if dry_run or workspace_id is None:
        return NO_APPROVAL
    effective = await resolve_defaults(app, caller, workspace_id, labels=None)
    spec = validate_spec(InferenceSpec, model=model, inputs="any")
    return await build_approval_question(
        app,
        caller,
        spec,
        threshold_micro_usd=effective.approval_threshold_micro_usd,
        idempotency_key=idempotency_key,
        max_cost_usd=max_cost_usd,
    )


async def space_question(
    space: str,
    workspace_id: str | None,
    idempotency_key: str | None,
    dry_run: bool,  # noqa: FBT001  # filled in by name
    app: AppDep,
    caller: CallerDep,
) -> ApprovalQuestion:
    """Resolve what a person would have to agree to before a Space is called."""
    if dry_run or workspace_id is None:
        return NO_APPROVAL
    effective = await resolve_defaults(app, caller, workspace_id, labels=None)
    return await build_approval_question(
        app,
        caller,
        validate_spec(SpaceCallSpec, space=space),
        threshold_micro_usd=effective.approval_threshold_micro_usd,
        idempotency_key=idempotency_key,
        max_cost_usd=None,
    )
