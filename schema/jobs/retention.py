"""Deletion of what is finished and past its retention, in small batches."""

from datetime import timedelta
from typing import Final

from schema.accounts import credentials
from schema.db.database import Transaction

_BATCH_ROWS: Final = 500
_MAX_BATCH_ITEM_ROWS: Final = 5000
"""Items of a batch that are deleted in one transaction, before the batch itself is."""

# One batch at a time: with its job, each would take thousands of rows with it.
_PRUNE_ITEMS: Final = """
WITH old AS MATERIALIZED (
    SELECT id
      FROM job
     WHERE finished_at < now() - $1::interval
       AND kind = 'batch'
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

_PRUNE_JOBS: Final = """
WITH old AS MATERIALIZED (
    SELECT id
      FROM job
     WHERE finished_at < now() - $1::interval
       AND NOT EXISTS (
               SELECT FROM remote_run
                WHERE remote_run.job_id = job.id
                  AND (state IN ('posting', 'unknown', 'bound')
                       OR (state = 'absent' AND deadline_at IS NOT NULL)))
       AND NOT EXISTS (SELECT FROM batch_item WHERE batch_item.job_id = job.id)
     ORDER BY finished_at
     LIMIT $2
       FOR UPDATE SKIP LOCKED
), runs AS (
    DELETE FROM remote_run USING old WHERE remote_run.job_id = old.id
), jobs AS (
    DELETE FROM job USING old WHERE job.id = old.id RETURNING job.id
)
SELECT count(*) FROM jobs
"""

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


async def prune_expired(
    tx: Transaction, *, retention: timedelta, clock_lead: timedelta = timedelta(0)
) -> bool:
    """Delete some of what is past its retention; true if there may be more.

    Args:
        retention: how long finished jobs and what belongs to them are kept.
        clock_lead: by how much the clock may be ahead of the times in the rows.
    """
    retention += clock_lead
    await tx.execute(_PRUNE_KEYS, _BATCH_ROWS, clock_lead)
    await credentials.delete_idle_credentials(tx, clock_lead=clock_lead)
    counts = await tx.execute(_PRUNE_CALLS, _BATCH_ROWS, clock_lead)
    entries = await tx.execute(_PRUNE_AUDIT, retention, _BATCH_ROWS)
    firings = await tx.execute(_PRUNE_FIRINGS, retention, _BATCH_ROWS)
    items = await tx.execute(_PRUNE_ITEMS, retention, _MAX_BATCH_ITEM_ROWS)
    pruned: int = await tx.fetchval(_PRUNE_JOBS, retention, _BATCH_ROWS)
    full = f"DELETE {_BATCH_ROWS}" in {counts, entries, firings}
    return pruned == _BATCH_ROWS or full or items != "DELETE 0"
