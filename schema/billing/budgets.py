"""Budgets: a launch reserves its worst case before it is made (I6).

A launch holds its ceiling in the statement that makes its job, against the budget of its workspace
and against the month of its subject. Both are counters in a row of their own, locked by then. The
trigger `settle_cost` turns a hold into what was spent once nothing of the job can cost any more: it
is over, no run of it is open, and no absent run is still watched for.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from schema.common.errors import BudgetExceeded
from schema.db.database import Transaction

CURRENT_MONTH_SQL: Final = "date_trunc('month', now() AT TIME ZONE 'UTC')::date"
"""The first day of this month, in UTC whatever the time zone of the server is."""

_MINUTE: Final = timedelta(minutes=1)

_WORKSPACE_BUDGET: Final = """
SELECT 'workspace' AS whose, budget_micro_usd, held_micro_usd, spent_micro_usd
  FROM workspace
 WHERE subject_id = $1
   AND id = $2
"""

_MONTHLY_BUDGET: Final = f"""
SELECT 'month' AS whose,
       coalesce((SELECT monthly_budget_micro_usd FROM subject WHERE id = $1), $2::bigint)
           AS budget_micro_usd,
       coalesce(sum(held_micro_usd), 0)::bigint AS held_micro_usd,
       coalesce(sum(spent_micro_usd), 0)::bigint AS spent_micro_usd,
       ({CURRENT_MONTH_SQL} + interval '1 month') AT TIME ZONE 'UTC' AS resets_at
  FROM spending
 WHERE subject_id = $1
   AND month = {CURRENT_MONTH_SQL}
"""  # noqa: S608  # our own words

# Locked in the order of every transition; a launch at the same time waits for the answer.
_LOCK_JOB: Final = """
SELECT job.subject_id, job.workspace_id
  FROM remote_run AS run
  JOIN job ON job.id = run.job_id
 WHERE run.id = $1
   FOR UPDATE OF job
"""

_LOCK_RUN: Final = "SELECT FROM remote_run WHERE id = $1 FOR UPDATE"

_LOCK_SUBJECT: Final = """
SELECT coalesce(monthly_budget_micro_usd, $2::bigint) FROM subject WHERE id = $1 FOR UPDATE
"""

_RELAUNCH_FITS: Final = """
WITH cost AS MATERIALIZED (
    SELECT job_cost.*
      FROM job_cost
      JOIN remote_run AS run ON run.job_id = job_cost.job_id
     WHERE run.id = $1
       FOR UPDATE OF job_cost
), grouped AS MATERIALIZED (
    SELECT budget_micro_usd - held_micro_usd - spent_micro_usd AS left_micro_usd
      FROM workspace
     WHERE id = $2
       AND EXISTS (SELECT FROM cost)
       FOR UPDATE
), monthly AS MATERIALIZED (
    SELECT $3::bigint - spending.held_micro_usd - spending.spent_micro_usd AS left_micro_usd
      FROM spending
      JOIN cost ON (spending.subject_id, spending.month) = (cost.subject_id, cost.month)
     WHERE (SELECT count(*) FROM grouped) >= 0
       FOR UPDATE OF spending
)
SELECT ceiling_micro_usd <= least((SELECT left_micro_usd FROM grouped),
                                  (SELECT left_micro_usd FROM monthly),
                                  most_micro_usd - held_micro_usd,
                                  ceiling_micro_usd)
  FROM cost
"""


class BudgetScope(StrEnum):
    """What a budget bounds."""

    WORKSPACE = "workspace"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """A budget, and what is held and spent of it."""

    scope: BudgetScope
    budget_micro_usd: int | None
    """None is no limit."""
    held_micro_usd: int = 0
    spent_micro_usd: int = 0
    resets_at: datetime | None = None
    """When nothing is spent of it again; None: never."""

    @property
    def remaining_micro_usd(self) -> int | None:
        """What may still be held; none is any amount."""
        if self.budget_micro_usd is None:
            return None
        return max(0, self.budget_micro_usd - self.held_micro_usd - self.spent_micro_usd)


@dataclass(frozen=True, slots=True)
class Rate:
    """What a launch can cost: upstream bills each started minute of each attempt."""

    price_micro_usd: int
    timeout: timedelta
    attempts: int = 1
    most_micro_usd: int | None = None
    """The most its subject wants to pay for it, if they said so."""

    @property
    def ceiling_micro_usd(self) -> int:
        """The worst case: no run outlives its timeout."""
        return self.price_micro_usd * math.ceil(self.timeout / _MINUTE) * self.attempts

    def longest_timeout(self, budget_micro_usd: int) -> timedelta:
        """Return the longest timeout that fits into a budget; zero if none does."""
        micro_usd_per_minute = self.price_micro_usd * self.attempts
        if not micro_usd_per_minute:
            return self.timeout
        return _MINUTE * (budget_micro_usd // micro_usd_per_minute)


async def read_budgets(
    tx: Transaction,
    subject_id: str,
    workspace_id: UUID | None,
    *,
    default_monthly_budget: int | None,
) -> list[BudgetStatus]:
    """Return the budgets that a launch now would count against.

    Args:
        default_monthly_budget: millionths of a dollar, for a subject without a budget of its own;
            none is no limit.
    """
    month = await read_monthly_budget(tx, subject_id, default_monthly_budget=default_monthly_budget)
    row = await tx.fetchrow(_WORKSPACE_BUDGET, subject_id, workspace_id)
    return [month] if row is None else [_budget_status(**row), month]


async def read_monthly_budget(
    tx: Transaction, subject_id: str, *, default_monthly_budget: int | None
) -> BudgetStatus:
    """Return the subject's budget of this month."""
    row = await tx.fetchrow(_MONTHLY_BUDGET, subject_id, default_monthly_budget)
    assert row is not None  # noqa: S101  # an aggregate has one row
    return _budget_status(**row)


def find_exceeded_budget(budgets: list[BudgetStatus], rate: Rate | None) -> BudgetExceeded | None:
    """Return the first budget that has no room for a launch; without a price it fits into none."""
    for budget in budgets:
        remaining = budget.remaining_micro_usd
        if remaining is not None and (rate is None or rate.ceiling_micro_usd > remaining):
            return BudgetExceeded(
                budget.scope,
                budget_micro_usd=budget.budget_micro_usd or 0,
                spent_micro_usd=budget.spent_micro_usd,
                held_micro_usd=budget.held_micro_usd,
                ceiling_micro_usd=None if rate is None else rate.ceiling_micro_usd,
                max_timeout=timedelta(0) if rate is None else rate.longest_timeout(remaining),
                resets_at=budget.resets_at,
            )
    return None


async def lock_budgets_for_relaunch(
    tx: Transaction, run_id: UUID, *, default_monthly_budget: int | None
) -> bool:
    """Return whether the job of a run may hold its ceiling once more.

    Until the caller's transaction ends nothing else can be held against the same budgets.
    """
    job = await tx.fetchrow(_LOCK_JOB, run_id)
    assert job is not None  # noqa: S101  # a run has a job
    await tx.execute(_LOCK_RUN, run_id)
    budget = await tx.fetchval(_LOCK_SUBJECT, job["subject_id"], default_monthly_budget)
    fits: bool | None = await tx.fetchval(_RELAUNCH_FITS, run_id, job["workspace_id"], budget)
    return fits is not False


def _budget_status(
    *,
    whose: str,
    budget_micro_usd: int | None,
    held_micro_usd: int,
    spent_micro_usd: int,
    resets_at: datetime | None = None,
) -> BudgetStatus:
    return BudgetStatus(
        BudgetScope(whose), budget_micro_usd, held_micro_usd, spent_micro_usd, resets_at
    )
