"""The worst-case price of a launch, and the question whether a person agrees to it.

A workspace has the threshold above which somebody is asked. A call that is repeated under its
idempotency key launches nothing new, so nobody is asked twice.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from schema.billing.budgets import Rate
from schema.billing.pricing import price_job
from schema.common.durations import format_duration
from schema.common.errors import Invalid
from schema.common.money import format_usd
from schema.db.database import Transaction
from schema.specs.base import Spec
from schema.specs.hub_job import HubJobSpec
from service.auth.caller import Caller
from service.jobs.launch import LaunchRequest
from service.runtime.context import App

IsKeyUsed = Callable[[Transaction, str, str], Awaitable[bool]]
"""Whether a subject's idempotency key has made something already."""


@dataclass(frozen=True, slots=True)
class ApprovalQuestion:
    """What a launch may cost at most, and above which cost a person is asked."""

    work: str
    """The work, as in "t4-small for up to 2h"."""
    ceiling_micro_usd: int | None
    """None: its price is not known, which counts as more than any threshold."""
    threshold_micro_usd: int | None
    """None: nobody is asked."""

    @property
    def is_needed(self) -> bool:
        """Whether somebody has to agree."""
        if self.threshold_micro_usd is None:
            return False
        return self.ceiling_micro_usd is None or self.ceiling_micro_usd > self.threshold_micro_usd

    @property
    def sentence(self) -> str:
        """The question; the same for the same call."""
        price = (
            "has no known price"
            if self.ceiling_micro_usd is None
            else f"may cost {format_usd(self.ceiling_micro_usd, is_bound=True)}"
        )
        return (
            f"{self.work} {price}; above {format_usd(self.threshold_micro_usd or 0)} a person is "
            "asked first."
        )


NO_APPROVAL: Final = ApprovalQuestion("", None, None)
"""Nobody has to agree."""


async def price_launch(app: App, spec: Spec, max_cost_usd: float | None) -> Rate | None:
    """Price a launch; None for a call, because Hugging Face names no price for one.

    Raises:
        Invalid: its worst case is above the limit, or there is a limit and no price.
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
    app: App, caller: Caller, request: LaunchRequest, is_key_used: IsKeyUsed
) -> ApprovalQuestion:
    """Say what a person has to agree to before a launch, if anything."""
    question = ApprovalQuestion(
        request.work,
        None if request.rate is None else request.rate.ceiling_micro_usd,
        request.approval_threshold_micro_usd,
    )
    if not question.is_needed or request.idempotency_key is None:
        return question
    async with app.transaction(caller) as tx:
        is_repeat = await is_key_used(tx, caller.subject_id, request.idempotency_key)
    return NO_APPROVAL if is_repeat else question


def describe_work(spec: Spec) -> str:
    """Name what a person is asked to pay for, as in "t4-small for up to 2h"."""
    if isinstance(spec, HubJobSpec):
        times = f", {spec.attempts} times" if spec.attempts > 1 else ""
        return f"{spec.flavor} for up to {format_duration(spec.timeout)}{times}"
    return f"A call of {spec.title}"
