"""The transitions that end what lasts too long, so that every job comes to a final state.

A run past its deadline is killed. A job fails if nobody can launch it, or look at it, because its
subject does not come back. And the watch for an absent run ends.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

from schema.db.database import Transaction
from schema.db.sql import parse_statement
from schema.jobs.tables import Reason

_EXPIRE_RUN: Final = parse_statement("""
WITH before AS MATERIALIZED (
    SELECT id
      FROM job
     WHERE id = (SELECT job_id FROM remote_run WHERE id = :run_id)
       AND state = 'running'
       FOR UPDATE
), doomed AS (
    UPDATE remote_run AS run
       SET desired = 'dead',
           due_at = now()
      FROM before
     WHERE run.job_id = before.id
       AND run.id = :run_id
       AND run.state = 'bound'
       AND run.desired = 'alive'
       AND run.deadline_at + :overdue_by <= now()
    RETURNING run.job_id, run.stage
), moved AS (
    UPDATE job
       SET state = 'failed',
           reason = :reason,
           message = :message,
           finished_at = now(),
           version = version + 1
      FROM doomed
     WHERE job.id = doomed.job_id
    RETURNING job.*, doomed.stage
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor, facts)
    SELECT id, version, 'expired', state, :worker,
           jsonb_build_object('reason', reason, 'stage', stage, 'message', message)
      FROM moved
)
SELECT count(*) FROM moved
""")

_FIND_ABANDONED_RUNS: Final = """
SELECT id
  FROM remote_run
 WHERE state = 'bound'
   AND desired = 'alive'
   AND deadline_at + $1 <= now()
 ORDER BY deadline_at
 LIMIT $2
"""

_FAIL_UNSTARTED_JOBS: Final = """
WITH before AS MATERIALIZED (
    SELECT job.id, subject.hold
      FROM job
      JOIN subject ON subject.id = job.subject_id
     WHERE job.state = 'queued'
       AND job.due_at + $1 <= now()
       -- It may have been launched after the backup that it was restored from.
       AND NOT EXISTS (
               SELECT FROM restored_subject AS restored
                WHERE restored.subject_id = job.subject_id
                  AND restored.reconciled_at IS NULL)
     ORDER BY job.due_at
     LIMIT $2
       FOR UPDATE OF job SKIP LOCKED
), moved AS (
    UPDATE job
       SET state = 'failed',
           reason = 'stuck_scheduling',
           finished_at = now(),
           due_at = NULL,
           message = CASE before.hold
                     WHEN 'credentials' THEN 'It waited here for a token that is still accepted.'
                     WHEN 'operator' THEN 'It waited here while its subject was paused.'
                     ELSE 'It waited here for a worker.' END,
           version = version + 1
      FROM before
     WHERE job.id = before.id
    RETURNING job.*
), counted AS (
    UPDATE subject
       SET queued = queued - given_up.jobs
      FROM (SELECT subject_id, count(*)::int AS jobs FROM moved GROUP BY 1) AS given_up
     WHERE subject.id = given_up.subject_id
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor, facts)
    SELECT id, version, 'expired', state, $3,
           jsonb_build_object('reason', reason, 'message', message)
      FROM moved
)
SELECT count(*) FROM moved
"""

_STOP_WATCHING_ABSENT_RUNS: Final = """
WITH due AS MATERIALIZED (
    SELECT run.id, run.job_id
      FROM remote_run AS run
      JOIN job ON job.id = run.job_id
     WHERE run.state = 'absent'
       AND run.deadline_at + $3 <= now()
     ORDER BY run.deadline_at
     LIMIT $1
       FOR UPDATE OF job SKIP LOCKED
), given_up AS (
    UPDATE remote_run AS run
       SET deadline_at = NULL
      FROM due
     WHERE run.id = due.id
       AND run.state = 'absent'
    RETURNING run.job_id
), moved AS (
    UPDATE job
       SET version = version + 1
     WHERE id IN (SELECT job_id FROM given_up)
    RETURNING job.*
), event AS (
    INSERT INTO job_event (job_id, version, kind, state, actor)
    SELECT id, version, 'unwatched', state, $2 FROM moved
)
SELECT count(*) FROM moved
"""

_BATCH_ROWS: Final = 100


async def expire_run(
    tx: Transaction,
    run_id: UUID,
    *,
    reason: Reason,
    message: str,
    worker: str,
    overdue_by: timedelta = timedelta(0),
) -> bool:
    """Fail a job whose run is past its deadline, and order the run killed.

    Args:
        overdue_by: how far it must be past it.

    Returns:
        False if it is not, or the run or the job has changed meanwhile.
    """
    expired = await tx.fetchval(
        *_EXPIRE_RUN.bind(
            run_id=run_id, reason=reason, message=message, overdue_by=overdue_by, worker=worker
        )
    )
    return bool(expired)


async def fail_abandoned_jobs(tx: Transaction, *, abandon_after: timedelta, worker: str) -> bool:
    """Fail jobs that waited too long for their subject; true if there may be more.

    Their runs get a kill order, which is carried out as soon as the subject brings a token.

    Args:
        abandon_after: how long a job may be due, or a run past its deadline.
    """
    unstarted_count: int = await tx.fetchval(
        _FAIL_UNSTARTED_JOBS, abandon_after, _BATCH_ROWS, worker
    )
    abandoned_runs = await tx.fetch(_FIND_ABANDONED_RUNS, abandon_after, _BATCH_ROWS)
    for row in abandoned_runs:
        await expire_run(
            tx,
            row["id"],
            reason=Reason.OUTCOME_UNKNOWN,
            message="Nobody could look at it: its subject brought no token that is still accepted.",
            overdue_by=abandon_after,
            worker=worker,
        )
    return _BATCH_ROWS in (unstarted_count, len(abandoned_runs))


async def stop_watching_absent_runs(
    tx: Transaction, *, worker: str, clock_lead: timedelta = timedelta(0)
) -> bool:
    """End the watch for absent runs, so that what is held for them is settled.

    Args:
        clock_lead: by how much the clock may be ahead of the ends of these watches.

    Returns:
        Whether there may be more.
    """
    ended = await tx.fetchval(_STOP_WATCHING_ABSENT_RUNS, _BATCH_ROWS, worker, clock_lead)
    return bool(ended == _BATCH_ROWS)
