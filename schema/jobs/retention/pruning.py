"""Deletion of what is finished and past its retention, in small batches."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final, Self

from schema.accounts import connections, credentials
from schema.artifacts import uploads
from schema.db.database import Transaction
from schema.db.sql import parse_statement
from schema.jobs.monitoring.queue_history import PRESENT_KINDS_SQL
from schema.jobs.retention.deletion import DELETE_CHOSEN_SQL, IS_DELETABLE_SQL
from schema.jobs.tables import JobKind

_BATCH_ROWS: Final = 500
_MAX_UPLOADS: Final = 10
"""Uploads that are deleted in one transaction: each may have a thousand rows."""
_MAX_BATCH_ITEM_ROWS: Final = 5000
"""Items of a batch that are deleted in one transaction, before the batch itself is."""

# One batch at a time: with its job, each would take thousands of rows with it.
_PRUNE_ITEMS: Final = """
WITH old AS MATERIALIZED (
    SELECT id
      FROM job
     WHERE finished_at < now() - $1::interval
       AND kind = $3
       AND EXISTS (SELECT FROM batch_item WHERE batch_item.job_id = job.id)
     ORDER BY finished_at
     LIMIT 1
)
DELETE FROM batch_item
 WHERE (job_id, position) IN (
           SELECT item.job_id, item.position
             FROM batch_item AS item
             JOIN old ON old.id = item.job_id
            LIMIT $2)
"""

# Each kind has its own index range and its own period, so the old jobs of one are found at once
# also beside many of another that are kept for longer.
_PRUNE_JOBS: Final = parse_statement(f"""
WITH RECURSIVE {PRESENT_KINDS_SQL}, chosen AS MATERIALIZED (
    SELECT old.id
      FROM present
      LEFT JOIN unnest(:kinds::text[], :periods::interval[]) AS own (kind, period)
        ON own.kind = present.kind
     CROSS JOIN LATERAL (
          SELECT id
            FROM job
           WHERE job.kind = present.kind
             AND finished_at < now() - coalesce(own.period, :period::interval)
             AND {IS_DELETABLE_SQL}
           ORDER BY finished_at
           LIMIT :limit
             FOR UPDATE SKIP LOCKED
      ) AS old
), {DELETE_CHOSEN_SQL}""")  # noqa: S608  # our own words

_PRUNE_KEYS: Final = """
DELETE FROM idempotency_key
 WHERE (subject_id, key) IN (
           SELECT subject_id, key
             FROM idempotency_key
            WHERE expires_at < now() - $2::interval
            LIMIT $1)
"""

# A window counts until the one after it has closed; they are minutes long.
_PRUNE_CALLS: Final = """
DELETE FROM call_window
 WHERE (window_start, subject_id) IN (
           SELECT window_start, subject_id
             FROM call_window
            WHERE window_start < now() - interval '1 hour' - $2::interval
            LIMIT $1)
"""

_PRUNE_AUDIT: Final = """
DELETE FROM audit_entry
 WHERE id IN (
           SELECT id FROM audit_entry WHERE at < now() - $1::interval ORDER BY at LIMIT $2)
"""

_PRUNE_FIRINGS: Final = """
DELETE FROM schedule_firing
 WHERE (schedule_id, fire_at) IN (
           SELECT schedule_id, fire_at
             FROM schedule_firing
            WHERE at < now() - $1::interval
            ORDER BY at
            LIMIT $2)
"""


# The current month is never past; a month with a hold has a job that is not settled.
_PRUNE_SPENDING: Final = """
DELETE FROM spending
 WHERE (subject_id, month) IN (
           SELECT subject_id, month
             FROM spending
            WHERE month < date_trunc('month', (now() - $1::interval) AT TIME ZONE 'UTC')::date
              AND held_micro_usd = 0
            LIMIT $2)
"""

_PRUNE_USAGE: Final = """
DELETE FROM usage_history
 WHERE id IN (
           SELECT id
             FROM usage_history
            WHERE day < ((now() - $1::interval) AT TIME ZONE 'UTC')::date
            ORDER BY day
            LIMIT $2)
"""

# Its secrets go with it. A job that was launched for it, and a workspace, refer to it.
_PRUNE_WEBHOOKS: Final = """
DELETE FROM webhook_target
 WHERE id IN (
           SELECT id
             FROM webhook_target AS target
            WHERE used_at < now() - $1::interval
              AND NOT EXISTS (SELECT FROM webhook_delivery WHERE target_id = target.id)
              AND NOT EXISTS (SELECT FROM workspace WHERE webhook_target_id = target.id)
            ORDER BY used_at
            LIMIT $2
              FOR UPDATE SKIP LOCKED)
"""

_PRUNE_WEBHOOK_SECRETS: Final = """
DELETE FROM webhook_secret WHERE expires_at < now() - $1::interval
"""


@dataclass(frozen=True, slots=True)
class RetentionPeriods:
    """How long rows are kept that nothing needs any more."""

    jobs: timedelta
    """After the end of a job, with everything of it; after the last use of a connected account, or
    of the target of a webhook."""
    jobs_by_kind: Mapping[str, timedelta]
    """The same for kinds that have a period of their own."""
    firings: timedelta
    """After a firing of a schedule."""
    audit: timedelta
    """After an entry of the audit was written."""
    spending: timedelta
    """Sums of what was spent and used: after the day or the month that they are of."""

    def of_kind(self, kind: str) -> timedelta:
        """Return how long a finished job of a kind is kept."""
        return self.jobs_by_kind.get(kind, self.jobs)

    def extend(self, lead: Callable[[timedelta], timedelta]) -> Self:
        """Return periods that are longer by what `lead` says for each of them."""
        return replace(
            self,
            jobs=self.jobs + lead(self.jobs),
            jobs_by_kind={
                kind: period + lead(period) for kind, period in self.jobs_by_kind.items()
            },
            firings=self.firings + lead(self.firings),
            audit=self.audit + lead(self.audit),
            spending=self.spending + lead(self.spending),
        )


async def prune_expired(
    tx: Transaction, *, periods: RetentionPeriods, clock_lead: timedelta = timedelta(0)
) -> bool:
    """Delete some of what is past its retention; true if there may be more.

    What a deleted job cost stays in the sums of its workspace, its month and `usage_history`.

    Args:
        periods: how long finished jobs and what belongs to them are kept.
        clock_lead: by how much the clock may be ahead of the other times in the rows: those of
            keys, tokens, uploads and counts of calls.
    """
    await tx.execute(_PRUNE_KEYS, _BATCH_ROWS, clock_lead)
    await tx.execute(_PRUNE_WEBHOOK_SECRETS, clock_lead)
    await credentials.delete_idle_credentials(tx, clock_lead=clock_lead)
    deleted = {
        await tx.execute(_PRUNE_CALLS, _BATCH_ROWS, clock_lead),
        await connections.delete_unused_connections(tx, period=periods.jobs, limit=_BATCH_ROWS),
        await tx.execute(_PRUNE_WEBHOOKS, periods.jobs, _BATCH_ROWS),
        await tx.execute(_PRUNE_AUDIT, periods.audit, _BATCH_ROWS),
        await tx.execute(_PRUNE_FIRINGS, periods.firings, _BATCH_ROWS),
        await tx.execute(_PRUNE_SPENDING, periods.spending, _BATCH_ROWS),
        await tx.execute(_PRUNE_USAGE, periods.spending, _BATCH_ROWS),
    }
    deleted_uploads = await uploads.delete_expired_uploads(
        tx, limit=_MAX_UPLOADS, clock_lead=clock_lead
    )
    batches = periods.of_kind(JobKind.BATCH)
    items = await tx.execute(_PRUNE_ITEMS, batches, _MAX_BATCH_ITEM_ROWS, JobKind.BATCH)
    pruned: int = await tx.fetchval(
        *_PRUNE_JOBS.bind(
            kinds=list(periods.jobs_by_kind),
            periods=list(periods.jobs_by_kind.values()),
            period=periods.jobs,
            limit=_BATCH_ROWS,
        )
    )
    return (
        pruned >= _BATCH_ROWS
        or f"DELETE {_BATCH_ROWS}" in deleted
        or items != "DELETE 0"
        or deleted_uploads == f"DELETE {_MAX_UPLOADS}"
    )
