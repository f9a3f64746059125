"""What a subject spent in some days, in groups: by month, day, workspace, namespace, kind, flavor.

A job counts on the day (UTC) of its launch, as in the budget of the month. One that was deleted
since is counted from `usage_history`, so its retention changes no sum. The amounts are those of
the budgets: settled, and held for what is not settled. Beside them stands what no budget counts:
the cost of running jobs so far, cost beyond a hold, and how many jobs have no price.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

from schema.billing.budgets import CURRENT_MONTH_SQL, BudgetScope, BudgetStatus
from schema.db.database import Transaction
from schema.db.sql import parse_statement

_SUMS_SQL: Final = """
       coalesce(sum(jobs), 0)::bigint AS jobs,
       coalesce(sum(unsettled), 0)::bigint AS unsettled,
       coalesce(sum(unpriced), 0)::bigint AS unpriced,
       coalesce(sum(spent_micro_usd), 0)::bigint AS spent_micro_usd,
       coalesce(sum(held_micro_usd), 0)::bigint AS held_micro_usd,
       coalesce(sum(so_far_micro_usd), 0)::bigint AS so_far_micro_usd,
       coalesce(sum(uncounted_micro_usd), 0)::bigint AS uncounted_micro_usd"""

_MAX_CLOCK_LEAD_SQL: Final = "interval '2 days'"
"""By how much the clock of Postgres may be ahead of that of the process that made the id of a job.

An id begins with the time (UUIDv7), so the index of ids has a month of jobs together.
"""

_GROUP_ORDER_SQL: Final = """first_day DESC NULLS LAST, spent_micro_usd + held_micro_usd DESC,
              jobs DESC, workspace_id, namespace, kind, flavor"""

_READ_SPENDING: Final = parse_statement(f"""
WITH month AS MATERIALIZED (
    SELECT coalesce(:month::date,
                    {CURRENT_MONTH_SQL} - make_interval(months => :months_ago)) AS first_day,
           (now() AT TIME ZONE 'UTC')::date AS today
), days AS MATERIALIZED (
    SELECT coalesce(:since::date, ((now() - :since_ago::interval) AT TIME ZONE 'UTC')::date,
                    first_day)::date AS first_day,
           least(coalesce(:until::date, ((now() - :until_ago::interval) AT TIME ZONE 'UTC')::date,
                          CASE WHEN :since::date IS NULL AND :since_ago::interval IS NULL
                               THEN first_day + interval '1 month' - interval '1 day' END),
                 today)::date AS last_day,
           today
      FROM month
), period AS MATERIALIZED (
    SELECT days.*,
           (lpad(to_hex(greatest(0, 1000 * extract(
                epoch FROM first_day::timestamp AT TIME ZONE 'UTC' - {_MAX_CLOCK_LEAD_SQL})
            )::bigint), 12, '0') || repeat('0', 20))::uuid AS first_id
      FROM days
), used AS (
    SELECT (job.created_at AT TIME ZONE 'UTC')::date AS day,
           job.workspace_id, job.namespace, job.kind, job.flavor,
           1 AS jobs,
           (cost.job_id IS NOT NULL AND cost.spent_micro_usd IS NULL)::int AS unsettled,
           (cost.job_id IS NULL)::int AS unpriced,
           cost.spent_micro_usd,
           cost.held_micro_usd,
           CASE WHEN cost.spent_micro_usd IS NULL AND job.started_at IS NOT NULL
                THEN least(cost.held_micro_usd,
                           cost.price_micro_usd * greatest(1, ceil(extract(
                               epoch FROM coalesce(job.finished_at, now()) - job.started_at) / 60)))
           END AS so_far_micro_usd,
           cost.uncounted_micro_usd
      FROM job
      LEFT JOIN job_cost AS cost ON cost.job_id = job.id
     WHERE job.subject_id = :subject_id
       AND job.id >= (SELECT first_id FROM period)
       AND (job.created_at AT TIME ZONE 'UTC')::date
           BETWEEN (SELECT first_day FROM period) AND (SELECT last_day FROM period)
       AND (:workspace_id::uuid IS NULL OR job.workspace_id = :workspace_id)
       AND (:namespace::text IS NULL OR job.namespace = :namespace)
    UNION ALL
    SELECT day, workspace_id, namespace, kind, flavor, jobs, 0, unpriced, spent_micro_usd, 0, 0,
           uncounted_micro_usd
      FROM usage_history
     WHERE subject_id = :subject_id
       AND day BETWEEN (SELECT first_day FROM period) AND (SELECT last_day FROM period)
       AND (:workspace_id::uuid IS NULL OR workspace_id = :workspace_id)
       AND (:namespace::text IS NULL OR namespace = :namespace)
), grouped AS MATERIALIZED (
    SELECT CASE WHEN 'day' = ANY(:dimensions::text[]) THEN day
                WHEN 'month' = ANY(:dimensions) THEN date_trunc('month', day)::date
           END AS first_day,
           CASE WHEN 'workspace' = ANY(:dimensions) THEN workspace_id END AS workspace_id,
           CASE WHEN 'namespace' = ANY(:dimensions) THEN namespace END AS namespace,
           CASE WHEN 'kind' = ANY(:dimensions) THEN kind END AS kind,
           CASE WHEN 'flavor' = ANY(:dimensions) THEN flavor END AS flavor,
           {_SUMS_SQL}
      FROM used
     GROUP BY 1, 2, 3, 4, 5
), total AS MATERIALIZED (
    SELECT count(*) AS groups, {_SUMS_SQL}
      FROM grouped
), largest AS MATERIALIZED (
    SELECT * FROM grouped ORDER BY {_GROUP_ORDER_SQL} LIMIT :limit
), shown AS MATERIALIZED (
    SELECT largest.*,
           workspace.name AS workspace,
           workspace.budget_micro_usd,
           CASE WHEN workspace.budget_micro_usd IS NOT NULL
                THEN greatest(workspace.budget_micro_usd - workspace.held_micro_usd
                              - workspace.spent_micro_usd, 0) END AS remaining_micro_usd
      FROM largest
      LEFT JOIN workspace
        ON workspace.id = largest.workspace_id
       AND workspace.subject_id = :subject_id
)
SELECT period.first_day, period.last_day, period.today,
       :workspace_id::uuid IS NULL OR EXISTS (
           SELECT FROM workspace WHERE subject_id = :subject_id AND id = :workspace_id
       ) AS has_workspace,
       coalesce((SELECT monthly_budget_micro_usd FROM subject WHERE id = :subject_id),
                :default_monthly_budget::bigint) AS budget_micro_usd,
       coalesce(spending.held_micro_usd, 0) AS month_held_micro_usd,
       coalesce(spending.spent_micro_usd, 0) AS month_spent_micro_usd,
       ({CURRENT_MONTH_SQL} + interval '1 month') AT TIME ZONE 'UTC' AS resets_at,
       to_jsonb(total) AS total,
       (SELECT coalesce(jsonb_agg(to_jsonb(shown) ORDER BY {_GROUP_ORDER_SQL}), '[]') FROM shown)
           AS groups
  FROM period
 CROSS JOIN total
  LEFT JOIN spending
    ON spending.subject_id = :subject_id
   AND spending.month = {CURRENT_MONTH_SQL}
""")  # noqa: S608  # our own words


class SpendingDimension(StrEnum):
    """What spending is grouped by."""

    MONTH = "month"
    DAY = "day"
    WORKSPACE = "workspace"
    NAMESPACE = "namespace"
    KIND = "kind"
    FLAVOR = "flavor"


@dataclass(frozen=True, slots=True)
class SpendingQuery:
    """Which jobs are counted, and how they are grouped; None is any.

    Days are whole, in UTC. Without `since`, the days are those of a month.
    """

    dimensions: Sequence[SpendingDimension]
    month: date | None = None
    """The first day of a month; None: the one that `months_ago` names."""
    months_ago: int = 0
    since: date | timedelta | None = None
    """The first day; a length of time is counted back from now."""
    until: date | timedelta | None = None
    """The last day, which is counted too."""
    workspace_id: UUID | None = None
    namespace: str | None = None


class SpendingSums(BaseModel):
    """How many jobs there were, and what they cost."""

    jobs: int = 0
    unsettled: int = 0
    """Jobs with a price whose cost is not final."""
    unpriced: int = 0
    """Jobs without a price: what they cost is not known."""
    spent_micro_usd: int = 0
    held_micro_usd: int = 0
    """For jobs that are not settled: what they may cost at most."""
    so_far_micro_usd: int = 0
    """What those that run have cost until now, by the price of the minutes started."""
    uncounted_micro_usd: int = 0
    """What jobs cost beyond what was held for them, which no budget counts."""


class SpendingGroup(SpendingSums):
    """The jobs that have the names of all dimensions in common; None in the other fields."""

    first_day: date | None
    """The day, or the first day of the month."""
    workspace_id: UUID | None
    workspace: str | None
    budget_micro_usd: int | None
    """Of its workspace, whatever the days; None is no limit."""
    remaining_micro_usd: int | None
    namespace: str | None
    kind: str | None
    flavor: str | None


@dataclass(frozen=True, slots=True)
class SpendingReport:
    """What was spent, held and left."""

    first_day: date
    last_day: date
    today: date
    total: SpendingSums
    groups: list[SpendingGroup]
    """The newest days first; of a day, or without one, the dearest first."""
    group_count: int
    """How many there are, also those that were not read."""
    month: BudgetStatus
    """The budget of the current month, whatever the days."""


_PARSE_GROUPS: Final = TypeAdapter(list[SpendingGroup]).validate_python


async def read_spending(
    tx: Transaction,
    subject_id: str,
    query: SpendingQuery,
    *,
    default_monthly_budget: int | None,
    limit: int,
) -> SpendingReport | None:
    """Return what a subject spent, in one statement; None if they have no such workspace.

    Args:
        default_monthly_budget: millionths of a dollar, for a subject without a budget of its own;
            None is no limit.
        limit: how many groups are read at most. The total has them all.
    """
    since, since_ago = _split_bound(query.since)
    until, until_ago = _split_bound(query.until)
    row = await tx.fetchrow(
        *_READ_SPENDING.bind(
            subject_id=subject_id,
            dimensions=list(query.dimensions),
            month=query.month,
            months_ago=query.months_ago,
            since=since,
            since_ago=since_ago,
            until=until,
            until_ago=until_ago,
            workspace_id=query.workspace_id,
            namespace=query.namespace,
            default_monthly_budget=default_monthly_budget,
            limit=limit,
        )
    )
    assert row is not None  # noqa: S101  # an aggregate has one row
    if not row["has_workspace"]:
        return None
    total: dict[str, Any] = row["total"]
    return SpendingReport(
        first_day=row["first_day"],
        last_day=row["last_day"],
        today=row["today"],
        total=SpendingSums.model_validate(total),
        groups=_PARSE_GROUPS(row["groups"]),
        group_count=total["groups"],
        month=BudgetStatus(
            BudgetScope.MONTH,
            row["budget_micro_usd"],
            row["month_held_micro_usd"],
            row["month_spent_micro_usd"],
            row["resets_at"],
        ),
    )


def _split_bound(bound: date | timedelta | None) -> tuple[date | None, timedelta | None]:
    if isinstance(bound, timedelta):
        return None, bound
    # A moment is a date too.
    return bound.date() if isinstance(bound, datetime) else bound, None
