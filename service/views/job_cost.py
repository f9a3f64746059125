"""What does a job cost: at worst, before it is launched, and so far, whenever it is looked at?"""

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from schema.common.money import format_usd
from schema.jobs.queries import JobStatus, UpstreamState

_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class CostSummary:
    """What a job costs; none of what is not known is ever shown as nothing."""

    ceiling_micro_usd: int | None
    so_far_micro_usd: int | None
    uncounted_micro_usd: int
    """What it cost beyond what was held for it."""
    is_final: bool


def summarize_cost(status: JobStatus) -> CostSummary:
    """Say what a job costs, by what is known at the time it was read."""
    settled = status.spent_micro_usd is not None
    unpriced_end = status.finished_at is not None and status.upstream is not UpstreamState.STOPPING
    return CostSummary(
        ceiling_micro_usd=status.ceiling_micro_usd,
        so_far_micro_usd=status.spent_micro_usd if settled else _cost_so_far(status),
        uncounted_micro_usd=status.uncounted_micro_usd or 0,
        is_final=settled or (status.ceiling_micro_usd is None and unpriced_end),
    )


def describe_cost(status: JobStatus) -> str:
    """Say what a job costs where a person would ask."""
    cost = summarize_cost(status)
    if not cost.so_far_micro_usd or cost.ceiling_micro_usd is None:
        return ""
    if status.finished_at is None:
        return (
            f" It has cost {format_usd(cost.so_far_micro_usd)} so far, of at most "
            f"{format_usd(cost.ceiling_micro_usd)}."
        )
    if not cost.is_final:
        return ""
    beyond = cost.uncounted_micro_usd
    more = f", and {format_usd(beyond)} more than was held for it" if beyond else ""
    return f" It cost {format_usd(cost.so_far_micro_usd)}{more}."


def _cost_so_far(status: JobStatus) -> int | None:
    if status.price_micro_usd is None or status.held_micro_usd is None:
        return None
    if status.started_at is not None:
        ran = max(timedelta(0), status.read_at - status.started_at)
        return min(status.held_micro_usd, status.price_micro_usd * math.ceil(ran / _MINUTE))
    # The Hub bills nothing before a job is started.
    return 0 if status.attempt == 0 or status.stage == "SCHEDULING" else None
