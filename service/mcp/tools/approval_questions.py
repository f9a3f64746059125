"""service.mcp.tools.approval_questions."""

from schema.specs.hub_job import HubJobSpec
from schema.specs.inference import InferenceSpec
from schema.specs.space import SpaceCallSpec
from schema.specs.validation_errors import checked, given
from service.jobs.approval import UNASKED, Question, question
from service.jobs.defaults import resolve
from service.mcp.dependencies import AppDep, CallerDep


async def job_question(
    image: str | None,
    command: list[str] | None,
    script: str | None,
    attempts: int,
    expose: list[int] | None,
    flavor: str | None,
    timeout: float | str | None,  # noqa: ASYNC109  # how long the job may run, not this call
    workspace_id: str | None,
    idempotency_key: str | None,
    max_cost_usd: float | None,
    dry_run: bool,  # noqa: FBT001  # filled in by name
    app: AppDep,
    caller: CallerDep,
) -> Question:
    """Resolve what a person would have to agree to before a job is launched."""
    if dry_run or workspace_id is None:
        return UNASKED
    effective = await resolve(
        app, caller, workspace_id, labels=None, flavor=flavor, timeout=timeout
    )
    # No more of it than what its price depends on.
    spec = checked(
        HubJobSpec,
        **given(image=image, command=command, script=script, expose=expose),
        **effective.only("flavor", "timeout"),
        attempts=attempts,
    )
    return await question(
        app,
        caller,
        spec,
        threshold=effective.confirm_above,
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
) -> Question:
    """Resolve what a person would have to agree to before a model is asked."""
    if dry_run or workspace_id is None:
        return UNASKED
    effective = await resolve(app, caller, workspace_id, labels=None)
    spec = checked(InferenceSpec, model=model, inputs="any")
    return await question(
        app,
        caller,
        spec,
        threshold=effective.confirm_above,
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
) -> Question:
    """Resolve what a person would have to agree to before a Space is called."""
    if dry_run or workspace_id is None:
        return UNASKED
    effective = await resolve(app, caller, workspace_id, labels=None)
    return await question(
        app,
        caller,
        checked(SpaceCallSpec, space=space),
        threshold=effective.confirm_above,
        idempotency_key=idempotency_key,
        max_cost_usd=None,
    )
