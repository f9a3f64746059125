"""Invariants of the rows, which hold after every transition."""

from typing import Final

COUNTER_MISMATCHES: Final = """
SELECT format('subject %s has %s active, %s queued', id, active, queued) AS mismatch FROM subject
 WHERE (active, queued) IS DISTINCT FROM (
     (SELECT count(*) FROM remote_run AS run
       WHERE run.subject_id = subject.id AND run.origin = 'ours'
         AND run.state IN ('posting', 'unknown', 'bound')),
     (SELECT count(*) FROM job WHERE job.subject_id = subject.id AND job.state = 'queued'))
UNION ALL
SELECT format('%s in %s has %s live', subject_id, namespace, live) FROM poll_group AS polled
 WHERE live <> (SELECT count(*) FROM remote_run AS run
                 WHERE run.subject_id = polled.subject_id AND run.namespace = polled.namespace
                   AND run.state = 'bound')
UNION ALL
SELECT format('workspace %s of %s: %s held, %s spent', name, workspace.subject_id,
              held_micro_usd, spent_micro_usd)
  FROM workspace LEFT JOIN LATERAL (
      SELECT sum(held) AS held, sum(spent) AS spent
        FROM (SELECT cost.held_micro_usd AS held, cost.spent_micro_usd AS spent
                FROM job JOIN job_cost AS cost ON cost.job_id = job.id
               WHERE job.workspace_id = workspace.id
              UNION ALL
              SELECT 0, spent_micro_usd
                FROM usage_history AS usage
               WHERE usage.workspace_id = workspace.id) AS money
      ) AS sums ON true
 WHERE (held_micro_usd, spent_micro_usd) <> (coalesce(held, 0), coalesce(spent, 0))
UNION ALL
SELECT format('month %s of %s: %s held, %s spent', month, subject_id, held_micro_usd,
              spent_micro_usd)
  FROM spending LEFT JOIN LATERAL (
      SELECT sum(held) AS held, sum(spent) AS spent
        FROM (SELECT held_micro_usd AS held, spent_micro_usd AS spent
                FROM job_cost AS cost
               WHERE (cost.subject_id, cost.month) = (spending.subject_id, spending.month)
              UNION ALL
              SELECT 0, spent_micro_usd
                FROM usage_history AS usage
               WHERE usage.subject_id = spending.subject_id
                 AND date_trunc('month', usage.day)::date = spending.month) AS money
      ) AS sums ON true
 WHERE (held_micro_usd, spent_micro_usd) <> (coalesce(held, 0), coalesce(spent, 0))
UNION ALL
SELECT format('job %s, %s, holds %s and spent %s', job.id, state, held_micro_usd, spent_micro_usd)
  FROM job JOIN job_cost AS cost ON cost.job_id = job.id
 WHERE (finished_at IS NULL) > (spent_micro_usd IS NULL)
    OR spent_micro_usd IS NULL AND finished_at IS NOT NULL AND NOT EXISTS (
           SELECT FROM remote_run AS run
            WHERE run.job_id = job.id AND (run.state IN ('posting', 'unknown', 'bound')
                                           OR run.state = 'absent' AND run.deadline_at IS NOT NULL))
UNION ALL
SELECT format('job %s is at version %s, and has another number of events', id, version) FROM job
 WHERE version <> (SELECT count(*) FROM job_event WHERE job_event.job_id = job.id)
"""
"""Counters that differ from the rows they count, costs that were not settled, lost events."""
