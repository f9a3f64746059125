"""What can a launch cost at worst, and is that so much that a person has to agree to it first?

A workspace says from where on. A call that is repeated under its idempotency key launches nothing
that was not agreed to, so nobody is asked twice.
"""

from dataclasses import dataclass, replace
from typing import Final

from schema.billing.budgets import Rate
from schema.billing.pricing import rate_of
from schema.common.durations import say
from schema.common.errors import Invalid
from schema.common.money import say_usd
from schema.jobs import queries as job_queries
from schema.specs.base import Spec
from schema.specs.hub_job import HubJobSpec
from service.auth.caller import Caller
from service.runtime.context import App


@dataclass(frozen=True, slots=True)
class Question:
    """What a launch may cost at most, and from where on a person is asked."""

    what: str
    """The work, as in "t4-small for up to 2h"."""
    ceiling: int | None
    """Millionths of a dollar; none if its price is not known, which is more than any threshold."""
    threshold: int | None
    """Nobody is asked if there is none."""

    @property
    def needed(self) -> bool:
        """Whether somebody has to agree."""
        if self.threshold is None:
            return False
        return self.ceiling is None or self.ceiling > self.threshold

    @property
    def sentence(self) -> str:
        """What is asked; the same for the same call."""
        known = (
            "has no known price" if self.ceiling is None else f"may cost {say_usd(self.ceiling)}"
        )
        return f"{self.what} {known}; above {say_usd(self.threshold or 0)} a person is asked first."


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


def _what(spec: Spec) -> str:
    if isinstance(spec, HubJobSpec):
        times = f", {spec.attempts} times" if spec.attempts > 1 else ""
        return f"{spec.flavor} for up to {say(spec.timeout)}{times}"
    return f"A call of {spec.title}"
