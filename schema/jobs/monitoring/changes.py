"""Versions of jobs and pages, the changes since a version, and the ends that nobody has seen.

A version tells whether to read again, and is cheap: one statement reads the versions of everything
that a process waits for. A change is an event that a person would want to be notified of.

The end of a job is unseen until a call has shown it. Whoever names a job knows of it and asks again
if an answer is lost, so showing it is enough. A list that finds jobs for whoever does not know them
marks nothing when it shows a page: the page is acknowledged by the next call, which names it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from schema.accounts.tables import Hold
from schema.common import ids
from schema.db.database import Transaction
from schema.db.sql import parse_statement

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


_MARK_SEEN: Final = """
DELETE FROM unseen_job WHERE subject_id = $1 AND job_id = ANY($2::uuid[])
"""

# The same page is the same as long as it shows the same, so a client that polls without an
# acknowledgement writes nothing. The locks are taken in the order of the ids.
_STAMP_PAGE: Final = parse_statement("""
WITH shown AS MATERIALIZED (
    SELECT job_id, page
      FROM unseen_job
     WHERE subject_id = :subject_id
       AND job_id = ANY(:job_ids::uuid[])
     ORDER BY job_id
       FOR UPDATE
), same AS MATERIALIZED (
    SELECT (array_agg(page))[1] AS page
      FROM shown
    HAVING count(DISTINCT page) = 1
       AND count(page) = count(*)
       AND count(*) = (SELECT count(*)
                         FROM unseen_job AS stamped
                        WHERE stamped.subject_id = :subject_id
                          AND stamped.page = (array_agg(shown.page))[1])
), stamped AS (
    UPDATE unseen_job
       SET page = :page
      FROM shown
     WHERE unseen_job.job_id = shown.job_id
       AND NOT EXISTS (SELECT FROM same)
)
SELECT coalesce((SELECT page FROM same), :page::uuid)
""")

_ACKNOWLEDGE_PAGE: Final = """
DELETE FROM unseen_job WHERE subject_id = $1 AND page = $2
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


async def mark_seen(tx: Transaction, subject_id: str, job_ids: Collection[UUID]) -> None:
    """Record that a call shows the ends of these jobs; nothing is written if there are none."""
    if job_ids:
        await tx.execute(_MARK_SEEN, subject_id, list(job_ids))


async def stamp_page(tx: Transaction, subject_id: str, job_ids: Collection[UUID]) -> UUID:
    """Return the id of a page of unseen jobs, which acknowledges them.

    The jobs stay unseen. If they are the ones that were shown last, nothing is written.
    """
    page: UUID = await tx.fetchval(
        *_STAMP_PAGE.bind(subject_id=subject_id, job_ids=list(job_ids), page=ids.new_id())
    )
    return page


async def acknowledge_page(tx: Transaction, subject_id: str, page: UUID) -> None:
    """Record that the jobs of a page have been seen; a page that is not known has none."""
    await tx.execute(_ACKNOWLEDGE_PAGE, subject_id, page)
