"""What can a launch cost at worst, and is that so much that a person has to agree to it first?

A workspace says from where on. A call that is repeated under its idempotency key launches nothing
that was not agreed to, so nobody is asked twice.
"""

from dataclasses import dataclass, replace
from typing import Final

from schema.billing.budgets import Rate
from schema.billing.pricing import price_job
from schema.common.durations import format_duration
from schema.common.errors import Invalid
from schema.common.money import format_usd
from schema.jobs import queries as job_queries
from schema.specs.base import Spec
from schema.specs.hub_job import HubJobSpec
from service.auth.caller import Caller
from service.runtime.context import App


@dataclass(frozen=True, slots=True)
class ApprovalQuestion:
    """What a launch may cost at most, and from where on a person is asked."""

    work: str
    """The work, as in "t4-small for up to 2h"."""
    ceiling_micro_usd: int | None
    """Millionths of a dollar; none if its price is not known, which is more than any threshold."""
    threshold_micro_usd: int | None
    """Nobody is asked if there is none."""

    @property
    def is_needed(self) -> bool:
        """Whether somebody has to agree."""
        if self.threshold_micro_usd is None:
            return False
        return self.ceiling_micro_usd is None or self.ceiling_micro_usd > self.threshold_micro_usd

    @property
    def sentence(self) -> str:
        """What is asked; the same for the same call."""
        known = (
            "has no known price"
            if self.ceiling_micro_usd is None
            else f"may cost {format_usd(self.ceiling_micro_usd)}"
        )
        return (
            f"{self.work} {known}; above {format_usd(self.threshold_micro_usd or 0)} a person is "
            "asked first."
        )


NO_APPROVAL: Final = ApprovalQuestion("", None, None)
"""Nobody has to agree."""


async def price_launch(app: App, spec: Spec, max_cost_usd: float | None) -> Rate | None:
    """Price a launch; a call has no price that anybody knows.

    Raises:
        Invalid: it has no price and needs one, or its worst case is above the limit.
    """
    if isinstance(spec, HubJobSpec):
        return price_job(spec, await app.price_cache.current(), max_cost_usd)
    if max_cost_usd is not None:
        raise Invalid(
            "max_cost_usd: Hugging Face names no price for a call, so what it costs cannot be "
            "bounded and nothing was launched. Leave it out; max_tokens in parameters bounds the "
            "answer."
        )
    return None


async def build_approval_question(
    app: App,
    caller: Caller,
    spec: Spec,
    *,
    threshold_micro_usd: int | None,
    idempotency_key: str | None,
    max_cost_usd: float | None,
) -> ApprovalQuestion:
    """Say what a person would have to agree to, if anything.

    Raises:
        Invalid: what it can cost is refused whoever agrees.
    """
    if threshold_micro_usd is None:
        return NO_APPROVAL
    rate = await price_launch(app, spec, max_cost_usd)
    asked = ApprovalQuestion(
        _describe_work(spec), None if rate is None else rate.ceiling_micro_usd, threshold_micro_usd
    )
    if not asked.is_needed or idempotency_key is None:
        return asked
    async with app.transaction(caller) as tx:
        repeated = await job_queries.is_idempotency_key_used(tx, caller.subject_id, idempotency_key)
    return replace(asked, threshold_micro_usd=None) if repeated else asked


def _describe_work(spec: Spec) -> str:
    if isinstance(spec, HubJobSpec):
        times = f", {spec.attempts} times" if spec.attempts > 1 else ""
        return f"{spec.flavor} for up to {format_duration(spec.timeout)}{times}"
    return f"A call of {spec.title}"
