"""What has happened to a job since somebody looked? Read for whoever waits, without a row changed.

A mark tells whether to look again, and is cheap: one statement reads the marks of everything that a
process waits for. News is what a person would want to be woken by, as the events tell it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from schema.accounts.tables import Hold
from schema.db.database import Transaction

MAX_LATEST_JOBS: Final = 5
"""How many jobs the page of a workspace shows."""

_READ_VERSIONS: Final = "SELECT * FROM job_marks($1, $2)"

# That an answer was lost, or that a run is found whose end is awaited, changes nothing that is
# shown. What is not named here is news, so that a new kind of event is not passed over in silence.
_CHANGED_JOBS: Final = """
SELECT seen.job_id
  FROM unnest($2::uuid[], $3::bigint[]) AS seen (job_id, version)
  JOIN job ON job.id = seen.job_id AND job.subject_id = $1 AND job.version > seen.version
 WHERE EXISTS (
           SELECT FROM job_event AS event
            WHERE event.job_id = seen.job_id
              AND event.version > seen.version
              AND NOT (event.kind = 'unconfirmed'
                       OR (event.kind = 'bound'
                           AND event.state IN ('succeeded', 'failed', 'cancelled'))))
"""

# Of a workspace what its page shows: the row, and its newest jobs.
_READ_PAGE_VERSIONS: Final = """
SELECT log.job_id AS id, log.length::text AS mark
  FROM job_log AS log
  JOIN job ON job.id = log.job_id
 WHERE job.subject_id = $1
   AND log.job_id = ANY($2::uuid[])
 UNION ALL
SELECT workspace.id,
       md5(concat_ws(' ', workspace::text,
                     (SELECT hold FROM subject WHERE id = $1),
                     (SELECT string_agg(concat_ws(' ', newest.id, newest.version), ' '
                                        ORDER BY newest.id)
                        FROM (SELECT id, version
                                FROM job
                               WHERE workspace_id = workspace.id
                               ORDER BY id DESC
                               LIMIT $3) AS newest)))
  FROM workspace
 WHERE workspace.subject_id = $1
   AND workspace.id = ANY($2::uuid[])
"""


@dataclass(frozen=True, slots=True)
class JobVersion:
    """How far a job is; while it stays the same, so does all that is shown of the job."""

    version: int
    hold: Hold | None


async def read_versions(
    tx: Transaction, jobs: Iterable[tuple[str, UUID]]
) -> dict[tuple[str, UUID], JobVersion]:
    """Read the marks of jobs, each as the subject it is named with: others' are not there."""
    pairs = list(jobs)
    rows = await tx.fetch(_READ_VERSIONS, [each[0] for each in pairs], [each[1] for each in pairs])
    return {
        (row["subject_id"], row["job_id"]): JobVersion(
            row["version"], row["hold"] and Hold(row["hold"])
        )
        for row in rows
    }


async def changed_jobs(
    tx: Transaction, subject_id: str, known_versions: Mapping[UUID, int]
) -> frozenset[UUID]:
    """Return those of the subject's jobs that changed for a person since the version named."""
    rows = await tx.fetch(
        _CHANGED_JOBS, subject_id, list(known_versions.keys()), list(known_versions.values())
    )
    return frozenset(row["job_id"] for row in rows)


async def read_page_versions(
    tx: Transaction, subject_id: str, page_ids: Iterable[UUID]
) -> dict[UUID, str]:
    """Tell, of logs by their jobs and of workspaces, what changes when a reader's page does.

    A log that is empty has nothing to tell. A workspace shows its `MAX_LATEST_JOBS` newest jobs.
    """
    rows = await tx.fetch(_READ_PAGE_VERSIONS, subject_id, list(page_ids), MAX_LATEST_JOBS)
    return {row["id"]: row["mark"] for row in rows}
