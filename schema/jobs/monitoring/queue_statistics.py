"""Numbers about the queues of all subjects, for the metrics and the status page of an operator.

Only the roles that see all subjects can read them. The first statement reads only what is open: the
partial indexes of queued jobs and open runs, and one row a subject. The second looks at all jobs
that are kept, so it is asked less often.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from schema.db.database import Transaction

_READ_QUEUES: Final = """
WITH queued AS MATERIALIZED (
    SELECT job.kind, job.due_at,
           CASE WHEN job.due_at = 'infinity' THEN 'dependency'
                WHEN subject.hold IS NOT NULL
                     OR EXISTS (SELECT FROM restored_subject AS restored
                                 WHERE restored.subject_id = job.subject_id
                                   AND restored.reconciled_at IS NULL) THEN 'held'
                WHEN job.due_at > now() THEN 'later'
                ELSE 'due' END AS waits_for
      FROM job
      JOIN subject ON subject.id = job.subject_id
     WHERE job.due_at IS NOT NULL
)
SELECT (SELECT coalesce(jsonb_object_agg(kind || ' ' || waits_for, jobs), '{}')
          FROM (SELECT kind, waits_for, count(*) AS jobs FROM queued GROUP BY 1, 2) AS counted
       ) AS queued,
       (SELECT coalesce(jsonb_object_agg(kind, seconds), '{}')
          FROM (SELECT kind, extract(epoch FROM now() - min(due_at)) AS seconds
                  FROM queued WHERE waits_for = 'due' GROUP BY 1) AS waited
       ) AS oldest_wait,
       (SELECT coalesce(jsonb_object_agg(kind || ' ' || state, runs), '{}')
          FROM (SELECT kind, state, count(*) AS runs FROM remote_run
                 WHERE origin = 'ours' AND state IN ('posting', 'unknown', 'bound')
                 GROUP BY 1, 2) AS counted
       ) AS open_runs,
       (SELECT count(*) FROM remote_run
         WHERE desired = 'dead' AND due_at IS NOT NULL) AS runs_to_kill,
       (SELECT coalesce(jsonb_object_agg(hold, subjects), '{}')
          FROM (SELECT hold, count(*) AS subjects FROM subject
                 WHERE hold IS NOT NULL GROUP BY 1) AS counted
       ) AS holds,
       (SELECT coalesce(sum(held_micro_usd), 0)::bigint FROM spending) AS held_micro_usd
"""
_COUNT_UNOWNED: Final = "SELECT count(*) FROM v_unowned"


@dataclass(frozen=True, slots=True)
class QueueStatistics:
    """The queues at one moment."""

    queued: Mapping[tuple[str, str], int]
    """Queued jobs by kind, and by what they wait for: due, later, held or dependency."""
    oldest_wait: Mapping[str, float]
    """Seconds since the oldest job of each kind became due, without those that are held."""
    open_runs: Mapping[tuple[str, str], int]
    """By kind and state."""
    runs_to_kill: int
    holds: Mapping[str, int]
    """Subjects by the reason of their hold."""
    held_micro_usd: int
    """Money that is reserved for jobs that are not settled."""


async def read_queue_statistics(tx: Transaction) -> QueueStatistics:
    """Read the numbers, all at the same moment."""
    row = await tx.fetchrow(_READ_QUEUES)
    assert row is not None  # noqa: S101  # each of its columns is a subquery
    return QueueStatistics(
        queued=_split_keys(row["queued"]),
        oldest_wait={kind: float(seconds) for kind, seconds in row["oldest_wait"].items()},
        open_runs=_split_keys(row["open_runs"]),
        runs_to_kill=row["runs_to_kill"],
        holds=row["holds"],
        held_micro_usd=row["held_micro_usd"],
    )


async def count_unowned(tx: Transaction) -> int:
    """Count the rows that need a next step which no worker would take: none, or there is a bug."""
    unowned: int = await tx.fetchval(_COUNT_UNOWNED)
    return unowned


def _split_keys(counts: Mapping[str, int]) -> dict[tuple[str, str], int]:
    # Neither a kind nor a state has a space.
    return {(kind, word): count for key, count in counts.items() for kind, word in [key.split()]}
