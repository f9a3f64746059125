"""The erasure of a subject: all their rows are deleted, some at a time, and the subject last.

Each step is a transaction, and can be repeated after a crash: what is deleted is gone, and the rest
is found again. Nothing is erased while something of theirs may still run upstream, because nobody
would know of it afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from schema.accounts import audit
from schema.accounts.audit import AuditAction
from schema.db.database import Transaction
from schema.jobs.retention.deletion import DELETE_CHOSEN_SQL, IS_DELETABLE_SQL

ERASED_SUBJECT: Final = "(erased)"
"""Stands in the audit for whoever is no longer known; no account has this id."""

_BATCH_ROWS: Final = 500
_BATCH_ITEM_ROWS: Final = 5000

_READ_OPEN_WORK: Final = """
SELECT (SELECT count(*) FROM job
         WHERE subject_id = $1
           AND finished_at IS NULL) AS unfinished_jobs,
       (SELECT count(*) FROM remote_run
         WHERE subject_id = $1
           AND state IN ('posting', 'unknown', 'bound')) AS open_runs,
       (SELECT max(deadline_at) FROM remote_run
         WHERE subject_id = $1
           AND state = 'absent') AS watched_until,
       EXISTS (SELECT FROM restored_subject
                WHERE subject_id = $1
                  AND reconciled_at IS NULL) AS is_unreconciled
"""

_LIST_UNFINISHED: Final = """
SELECT id FROM job WHERE subject_id = $1 AND finished_at IS NULL ORDER BY id LIMIT $2
"""

_DELETE_SCHEDULES: Final = """
WITH gone AS (DELETE FROM schedule WHERE subject_id = $1 RETURNING id) SELECT count(*) FROM gone
"""

_DELETE_ITEMS: Final = """
DELETE FROM batch_item
 WHERE (job_id, position) IN (
           SELECT item.job_id, item.position
             FROM batch_item AS item
             JOIN job ON job.id = item.job_id
            WHERE job.subject_id = $1
              AND job.finished_at IS NOT NULL
            LIMIT $2)
"""

_DELETE_CHUNKS: Final = """
DELETE FROM upload_chunk
 WHERE (upload_id, attempt, position) IN (
           SELECT upload_id, attempt, position FROM upload_chunk WHERE subject_id = $1 LIMIT $2)
"""

_DELETE_JOBS: Final = f"""
WITH chosen AS MATERIALIZED (
    SELECT id
      FROM job
     WHERE subject_id = $1
       AND {IS_DELETABLE_SQL}
     ORDER BY id
     LIMIT $2
       FOR UPDATE
), {DELETE_CHOSEN_SQL}"""  # noqa: S608  # our own words

_DELETE_ENTRIES: Final = """
DELETE FROM audit_entry
 WHERE id IN (SELECT id FROM audit_entry WHERE subject_id = $1 LIMIT $2)
"""

# A launch holds a lock of this row, or waits for ours.
_LOCK_SUBJECT: Final = "SELECT FROM subject WHERE id = $1 FOR UPDATE"

_HAS_JOBS: Final = "SELECT EXISTS (SELECT FROM job WHERE subject_id = $1)"

_SUM_UP: Final = """
SELECT (SELECT coalesce(sum(jobs), 0)::bigint FROM usage_history WHERE subject_id = $1) AS jobs,
       (SELECT coalesce(jsonb_object_agg(to_char(month, 'YYYY-MM'), spent_micro_usd), '{}')
          FROM spending WHERE subject_id = $1) AS spent_micro_usd
"""

_DELETE_REST: Final = (
    "DELETE FROM schedule WHERE subject_id = $1",
    "DELETE FROM restored_subject WHERE subject_id = $1",
    "DELETE FROM idempotency_key WHERE subject_id = $1",
    "DELETE FROM poll_group WHERE subject_id = $1",
    "DELETE FROM upload WHERE subject_id = $1",
    "DELETE FROM usage_history WHERE subject_id = $1",
    "DELETE FROM spending WHERE subject_id = $1",
    "DELETE FROM workspace WHERE subject_id = $1",
    "DELETE FROM webhook_target WHERE subject_id = $1",
    "DELETE FROM connected_account WHERE subject_id = $1",
    "DELETE FROM credential WHERE subject_id = $1",
    "DELETE FROM call_window WHERE subject_id = $1",
    "DELETE FROM audit_entry WHERE subject_id = $1",
    "DELETE FROM subject WHERE id = $1",
)


@dataclass(frozen=True, slots=True)
class OpenWork:
    """What of a subject stands in the way of an erasure."""

    unfinished_jobs: int
    open_runs: int
    """Runs that may be alive upstream."""
    watched_until: datetime | None
    """Until when a launch that nobody confirmed is still searched for; none if there is none."""

    is_unreconciled: bool = False
    """Whether their rows came from a backup, and runs of theirs may be unknown here."""

    @property
    def is_none(self) -> bool:
        """Whether nothing stands in the way."""
        return not (
            self.unfinished_jobs or self.open_runs or self.watched_until or self.is_unreconciled
        )


async def read_open_work(tx: Transaction, subject_id: str) -> OpenWork:
    """Read what may still run, or be launched."""
    row = await tx.fetchrow(_READ_OPEN_WORK, subject_id)
    assert row is not None  # noqa: S101  # each of its columns is a subquery
    return OpenWork(**row)


async def list_unfinished_jobs(tx: Transaction, subject_id: str) -> Sequence[UUID]:
    """Return some of the jobs that have to be cancelled first."""
    return [row["id"] for row in await tx.fetch(_LIST_UNFINISHED, subject_id, _BATCH_ROWS)]


async def delete_schedules(tx: Transaction, subject_id: str) -> int:
    """Delete all schedules with their secrets, so that nothing is launched by itself any more."""
    deleted: int = await tx.fetchval(_DELETE_SCHEDULES, subject_id)
    return deleted


async def erase_step(tx: Transaction, subject_id: str) -> bool:
    """Delete some rows of a subject; the last step deletes the subject, and is false.

    Only sums of what they spent stay, in an entry of the audit that names nobody.

    Returns:
        Whether there is more to do. Read `read_open_work` before each step: a job that may still
        run is not deleted, so there would be more for ever.
    """
    if await tx.execute(_DELETE_ITEMS, subject_id, _BATCH_ITEM_ROWS) != "DELETE 0":
        return True
    if await tx.fetchval(_DELETE_JOBS, subject_id, _BATCH_ROWS):
        return True
    if await tx.execute(_DELETE_CHUNKS, subject_id, _BATCH_ROWS) == f"DELETE {_BATCH_ROWS}":
        return True
    if await tx.execute(_DELETE_ENTRIES, subject_id, _BATCH_ROWS) == f"DELETE {_BATCH_ROWS}":
        return True
    await tx.execute(_LOCK_SUBJECT, subject_id)
    if await tx.fetchval(_HAS_JOBS, subject_id):
        return True
    sums: Any = await tx.fetchrow(_SUM_UP, subject_id)
    for statement in _DELETE_REST:
        await tx.execute(statement, subject_id)
    await audit.write_audit_entry(
        tx, AuditAction.SUBJECT_FORGOTTEN, subject_id=ERASED_SUBJECT, **sums
    )
    return False
