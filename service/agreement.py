"""What can a launch cost at worst, and is that so much that a person has to agree to it first?

A workspace says from where on. A call that is repeated under its idempotency key launches nothing
that was not agreed to, so nobody is asked twice.
"""

from dataclasses import replace
from typing import Final

from schema.billing.budgets import Rate
from schema.billing.pricing import rate_of
from schema.common.durations import say
from schema.common.errors import Invalid
from schema.jobs import queries as job_queries
from schema.specs.base import Spec
from schema.specs.hub_job import HubJobSpec
from schema.specs.inference import InferenceSpec
from schema.specs.space import SpaceCallSpec
from schema.specs.validation_errors import checked, given
from service.auth.caller import Caller
from service.confirmation import Question
from service.context import App, AppDep, CallerDep
from service.effective import resolve

UNASKED: Final = Question("", None, None)
"""Nobody has to agree."""


async def price(app: App, spec: Spec, max_cost_usd: float | None) -> Rate | None:
    """Price a launch; a call has no price that anybody knows.

    Raises:
        Invalid: it has no price and needs one, or its worst case is above the limit.
    """
    if isinstance(spec, HubJobSpec):
        return rate_of(spec, await app.prices.current(), max_cost_usd)
    if max_cost_usd is not None:
        raise Invalid(
            "max_cost_usd: Hugging Face names no price for a call, so what it costs cannot be "
            "bounded and nothing was launched. Leave it out; max_tokens in parameters bounds the "
            "answer."
        )
    return None


async def question(
    app: App,
    caller: Caller,
    spec: Spec,
    *,
    threshold: int | None,
    idempotency_key: str | None,
    max_cost_usd: float | None,
) -> Question:
    """Say what a person would have to agree to, if anything.

    Raises:
        Invalid: what it can cost is refused whoever agrees.
    """
    if threshold is None:
        return UNASKED
    rate = await price(app, spec, max_cost_usd)
    asked = Question(_what(spec), None if rate is None else rate.ceiling_micro_usd, threshold)
    if not asked.needed or idempotency_key is None:
        return asked
    async with app.transaction(caller) as tx:
        repeated = await job_queries.is_held(tx, caller.subject_id, idempotency_key)
    return replace(asked, threshold=None) if repeated else asked


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


def _what(spec: Spec) -> str:
    if isinstance(spec, HubJobSpec):
        times = f", {spec.attempts} times" if spec.attempts > 1 else ""
        return f"{spec.flavor} for up to {say(spec.timeout)}{times}"
    return f"A call of {spec.title}"
