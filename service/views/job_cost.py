"""Costs of a job: the worst case before its launch, and the cost so far."""

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from schema.common.money import format_usd
from schema.jobs.queries import JobStatus, UpstreamState

_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class CostSummary:
    """What a job costs; an amount that is not known is None, never 0."""

    ceiling_micro_usd: int | None
    so_far_micro_usd: int | None
    uncounted_micro_usd: int
    """What it cost beyond the amount that was held for it."""
    is_final: bool


def summarize_cost(status: JobStatus) -> CostSummary:
    """Compute what a job costs from what was known when its status was read."""
    is_settled = status.spent_micro_usd is not None
    has_ended = status.finished_at is not None and status.upstream is not UpstreamState.STOPPING
    return CostSummary(
        ceiling_micro_usd=status.ceiling_micro_usd,
        so_far_micro_usd=status.spent_micro_usd if is_settled else _cost_so_far(status),
        uncounted_micro_usd=status.uncounted_micro_usd or 0,
        is_final=is_settled or (status.ceiling_micro_usd is None and has_ended),
    )


def describe_cost(status: JobStatus) -> str:
    """Write a sentence about the cost of a job; empty if there is no cost worth telling."""
    cost = summarize_cost(status)
    if not cost.so_far_micro_usd or cost.ceiling_micro_usd is None:
        return ""
    if status.finished_at is None:
        return (
            f" It has cost {format_usd(cost.so_far_micro_usd)} so far, of at most "
            f"{format_usd(cost.ceiling_micro_usd, is_bound=True)}."
        )
    if not cost.is_final:
        return ""
    uncounted = cost.uncounted_micro_usd
    excess = f", and {format_usd(uncounted)} more than was held for it" if uncounted else ""
    return f" It cost {format_usd(cost.so_far_micro_usd)}{excess}."


def _cost_so_far(status: JobStatus) -> int | None:
    if status.price_micro_usd is None or status.held_micro_usd is None:
        return None
    if status.started_at is not None:
        started_minutes = max(1, math.ceil((status.read_at - status.started_at) / _MINUTE))
        return min(status.held_micro_usd, status.price_micro_usd * started_minutes)
    # The Hub bills nothing before a job is started.
    return 0 if status.attempt == 0 or status.stage == "SCHEDULING" else None
