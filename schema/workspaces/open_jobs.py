"""Reads of what is still open in a workspace, for calls that act on all of it.

Open is a job that is not final, and a cancelled one whose run has not been seen to be over yet.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from schema.db.database import Transaction
from schema.db.sql import parse_statement

_LIST_CANCELLABLE_JOBS: Final = """
SELECT id, kind
  FROM job
 WHERE subject_id = $1
   AND workspace_id = $2
   AND finished_at IS NULL
   AND kind <> ALL($3::text[])
 ORDER BY id
 LIMIT $4
"""

# Runs go first: a cancelled job is looked up by its run, so that final jobs are not read.
_LIST_UNSETTLED_JOBS: Final = """
SELECT id, count(*) OVER () AS total
  FROM (SELECT id, state
          FROM job
         WHERE subject_id = $1
           AND workspace_id = $2
           AND finished_at IS NULL
         UNION
        SELECT job.id, job.state
          FROM remote_run AS run
          JOIN job ON job.id = run.job_id
         WHERE run.subject_id = $1
           AND run.desired = 'dead'
           AND run.state IN ('posting', 'unknown', 'bound')
           AND job.workspace_id = $2) AS unsettled
 ORDER BY state = 'queued', id
 LIMIT $3
"""

_COUNT_AFTER_CANCEL: Final = parse_statement("""
SELECT (SELECT count(*)
          FROM job
         WHERE subject_id = :subject_id
           AND workspace_id = :workspace_id
           AND finished_at IS NULL) AS open_jobs,
       (SELECT count(DISTINCT run.job_id)
          FROM remote_run AS run
          JOIN job ON job.id = run.job_id
         WHERE run.subject_id = :subject_id
           AND run.desired = 'dead'
           AND run.state IN ('posting', 'unknown', 'bound')
           AND job.workspace_id = :workspace_id) AS stopping,
       (SELECT count(*)
          FROM schedule
         WHERE subject_id = :subject_id
           AND workspace_id = :workspace_id
           AND paused_at IS NULL) AS schedules,
       (SELECT count(DISTINCT wait.job_id)
          FROM job_dependency AS wait
          JOIN job ON job.id = wait.job_id
         WHERE wait.subject_id = :subject_id
           AND wait.parent_id = ANY(:cancelled_ids::uuid[])
           AND wait.state = 'unmet'
           AND job.workspace_id IS DISTINCT FROM :workspace_id) AS failing_elsewhere
""")


@dataclass(frozen=True, slots=True)
class CountsAfterCancel:
    """What there is of a workspace after its jobs were cancelled."""

    open_jobs: int
    stopping: int
    """Jobs with a run that has its kill order and has not been seen to be over."""
    schedules: int
    """Schedules that go on launching into it."""
    failing_elsewhere: int
    """Jobs outside of it that waited for the success of a cancelled one."""


async def list_cancellable_jobs(
    tx: Transaction,
    subject_id: str,
    workspace_id: UUID,
    *,
    excluded_kinds: Collection[str],
    limit: int,
) -> dict[UUID, str]:
    """Return the kinds of jobs of a workspace that are not final, the oldest first."""
    rows = await tx.fetch(
        _LIST_CANCELLABLE_JOBS, subject_id, workspace_id, sorted(excluded_kinds), limit
    )
    return {row["id"]: row["kind"] for row in rows}


async def list_unsettled_jobs(
    tx: Transaction, subject_id: str, workspace_id: UUID, *, limit: int
) -> tuple[list[UUID], int]:
    """Return jobs of a workspace that may change yet, and how many there are.

    Those that were launched come before those that are queued; of each, the oldest first.
    """
    rows = await tx.fetch(_LIST_UNSETTLED_JOBS, subject_id, workspace_id, limit)
    return [row["id"] for row in rows], rows[0]["total"] if rows else 0


async def count_after_cancel(
    tx: Transaction, subject_id: str, workspace_id: UUID, cancelled_ids: Sequence[UUID]
) -> CountsAfterCancel:
    """Count what a cancel of the whole workspace has left, and whom else it has reached."""
    row = await tx.fetchrow(
        *_COUNT_AFTER_CANCEL.bind(
            subject_id=subject_id, workspace_id=workspace_id, cancelled_ids=cancelled_ids
        )
    )
    assert row is not None  # noqa: S101  # a statement of counts has one row
    return CountsAfterCancel(**row)
