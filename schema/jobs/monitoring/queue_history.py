"""The queues of the last hour, read from the times of the jobs that are kept."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from schema.db.database import Transaction

PRESENT_KINDS_SQL: Final = """present AS (
    (SELECT kind FROM job WHERE finished_at IS NOT NULL ORDER BY kind LIMIT 1)
     UNION ALL
    SELECT (SELECT job.kind
              FROM job
             WHERE finished_at IS NOT NULL
               AND job.kind > present.kind
             ORDER BY job.kind
             LIMIT 1)
      FROM present
     WHERE present.kind IS NOT NULL
)"""
"""A recursive query of the kinds of finished jobs; the index `ix_job_retain` finds each at once."""

HISTORY_SPAN: Final = timedelta(hours=1)
HISTORY_POINTS: Final = 12

_READ_HISTORY: Final = f"""
WITH RECURSIVE {PRESENT_KINDS_SQL}, recent AS MATERIALIZED (
    SELECT kind, created_at, started_at, finished_at FROM job WHERE state = 'queued'
    UNION ALL
    SELECT job.kind, job.created_at, job.started_at, job.finished_at
      FROM remote_run AS run
      JOIN job ON job.id = run.job_id
     WHERE run.origin = 'ours'
       AND run.state IN ('posting', 'unknown', 'bound')
       AND job.finished_at IS NULL
    UNION ALL
    SELECT job.kind, job.created_at, job.started_at, job.finished_at
      FROM present
      JOIN job ON job.kind = present.kind
     WHERE job.finished_at > now() - $1::interval
), points AS (
    SELECT number, now() - (:points - number) * $1::interval / :points AS until,
           $1::interval / :points AS span
      FROM generate_series(1, :points) AS number
)
SELECT kind, number,
       count(*) FILTER (WHERE created_at <= until
                          AND coalesce(started_at, finished_at, 'infinity') > until) AS waiting,
       count(*) FILTER (WHERE finished_at > until - span AND finished_at <= until) AS ended
  FROM recent
 CROSS JOIN points
 GROUP BY kind, number
 ORDER BY kind, number
""".replace(":points", str(HISTORY_POINTS))  # noqa: S608  # our own words


@dataclass(frozen=True, slots=True)
class QueueHistory:
    """The queue of a kind at `HISTORY_POINTS` moments of the last `HISTORY_SPAN`, oldest first."""

    waiting: Sequence[int]
    """Jobs that had been made, and were not seen to start until then."""
    ended: Sequence[int]
    """Jobs that ended since the moment before."""


async def read_queue_history(tx: Transaction) -> dict[str, QueueHistory]:
    """Read what the queue of each kind was like, from the times of the jobs that are kept."""
    waiting: defaultdict[str, list[int]] = defaultdict(list)
    ended: defaultdict[str, list[int]] = defaultdict(list)
    for row in await tx.fetch(_READ_HISTORY, HISTORY_SPAN):
        waiting[row["kind"]].append(row["waiting"])
        ended[row["kind"]].append(row["ended"])
    return {kind: QueueHistory(waiting[kind], ended[kind]) for kind in waiting}
