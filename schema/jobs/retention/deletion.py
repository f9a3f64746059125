"""The deletion of finished jobs, which leaves what they were and cost in the history of usage.

A job may be deleted when nothing of it can cost any more: it is final, none of its runs is open,
and no absent run is watched for. Its cost is settled by then.
"""

from typing import Final

IS_DELETABLE_SQL: Final = """finished_at IS NOT NULL
       AND NOT EXISTS (
               SELECT FROM remote_run
                WHERE remote_run.job_id = job.id
                  AND (state IN ('posting', 'unknown', 'bound')
                       OR (state = 'absent' AND deadline_at IS NOT NULL)))
       AND NOT EXISTS (SELECT FROM batch_item WHERE batch_item.job_id = job.id)"""
"""The condition for a row of `job`. Items of a batch are deleted before, some at a time."""

DELETE_CHOSEN_SQL: Final = """used AS (
    INSERT INTO usage_history AS earlier (
        subject_id, day, kind, workspace_id, flavor, namespace, jobs, succeeded, failed, cancelled,
        run_microseconds, spent_micro_usd, uncounted_micro_usd, unpriced)
    SELECT subject_id, day, kind, workspace_id, flavor, namespace, sum(jobs), sum(succeeded),
           sum(failed), sum(cancelled), sum(run_microseconds), sum(spent_micro_usd),
           sum(uncounted_micro_usd), sum(unpriced)
      FROM v_usage
      JOIN chosen ON chosen.id = v_usage.job_id
     GROUP BY subject_id, day, kind, workspace_id, flavor, namespace
     ORDER BY subject_id, day, kind, workspace_id, flavor, namespace  -- two workers never deadlock
    ON CONFLICT ON CONSTRAINT uq_usage_history_group DO UPDATE
       SET jobs = earlier.jobs + excluded.jobs,
           succeeded = earlier.succeeded + excluded.succeeded,
           failed = earlier.failed + excluded.failed,
           cancelled = earlier.cancelled + excluded.cancelled,
           run_microseconds = coalesce(earlier.run_microseconds + excluded.run_microseconds,
                                       earlier.run_microseconds, excluded.run_microseconds),
           spent_micro_usd = earlier.spent_micro_usd + excluded.spent_micro_usd,
           uncounted_micro_usd = earlier.uncounted_micro_usd + excluded.uncounted_micro_usd,
           unpriced = earlier.unpriced + excluded.unpriced
), runs AS (
    DELETE FROM remote_run USING chosen WHERE remote_run.job_id = chosen.id
), jobs AS (
    DELETE FROM job USING chosen WHERE job.id = chosen.id RETURNING job.id
)
SELECT count(*) FROM jobs
"""
"""The end of a statement that has put the ids of jobs into `chosen`; it counts them."""
