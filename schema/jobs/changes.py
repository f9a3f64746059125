"""Versions of jobs and pages, and the changes since a version; reads only.

A version tells whether to read again, and is cheap: one statement reads the versions of everything
that a process waits for. A change is an event that a person would want to be notified of.
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

# A lost answer, or a run that is found after its job ended, changes nothing that is shown. Every
# other kind of event counts as a change, so that a new kind cannot be forgotten here.
_CHANGED_JOBS: Final = """
SELECT seen.job_id
  FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) AS seen (job_id, version, shown)
  JOIN job ON job.id = seen.job_id AND job.subject_id = $1 AND job.version > seen.version
 WHERE EXISTS (
           SELECT FROM job_event AS event
            WHERE event.job_id = seen.job_id
              AND event.version > seen.version
              AND event.version <= seen.shown
              AND NOT (event.kind = 'unconfirmed'
                       OR (event.kind = 'bound'
                           AND event.state IN ('succeeded', 'failed', 'cancelled'))))
"""

# The version of a workspace covers what its page shows: the row, and its newest jobs.
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
    """The version of a job; while it stays the same, so does all that is shown of the job."""

    version: int
    hold: Hold | None


async def read_versions(
    tx: Transaction, jobs: Iterable[tuple[str, UUID]]
) -> dict[tuple[str, UUID], JobVersion]:
    """Read the versions of jobs, each as the subject that it is paired with.

    A job of another subject is left out.
    """
    pairs = list(jobs)
    rows = await tx.fetch(
        _READ_VERSIONS,
        [subject_id for subject_id, _ in pairs],
        [job_id for _, job_id in pairs],
    )
    return {
        (row["subject_id"], row["job_id"]): JobVersion(
            row["version"], row["hold"] and Hold(row["hold"])
        )
        for row in rows
    }


async def changed_jobs(
    tx: Transaction,
    subject_id: str,
    known_versions: Mapping[UUID, int],
    shown_versions: Mapping[UUID, int],
) -> frozenset[UUID]:
    """Return the subject's jobs that changed, for a person, since the version known.

    Args:
        shown_versions: those that were read, of the same jobs. A change after them is not shown,
            so it does not count yet.
    """
    rows = await tx.fetch(
        _CHANGED_JOBS,
        subject_id,
        list(known_versions.keys()),
        list(known_versions.values()),
        [shown_versions[job_id] for job_id in known_versions],
    )
    return frozenset(row["job_id"] for row in rows)


async def read_page_versions(
    tx: Transaction, subject_id: str, page_ids: Iterable[UUID]
) -> dict[UUID, str]:
    """Return a version for the page of each log and workspace; it changes when the page does.

    A log that is empty has no version. A workspace shows its `MAX_LATEST_JOBS` newest jobs.

    Args:
        page_ids: ids of jobs, for their logs, and of workspaces.
    """
    rows = await tx.fetch(_READ_PAGE_VERSIONS, subject_id, list(page_ids), MAX_LATEST_JOBS)
    return {row["id"]: row["mark"] for row in rows}
